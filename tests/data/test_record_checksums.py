"""Checksums of TFRecords, compared while records are read."""

import re
import shutil

import numpy as np
import pytest

from jaxvision.data import decode, digits, tfrecord
from jaxvision.data.config import DataConfig
from jaxvision.data.loader import Loader
from jaxvision.data.plan import Plan
from jaxvision.data.sources import open_source

RECORD = 5


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """A copy of the digits; calling it changes a bit of a byte of record 5, counted from the record's first byte."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(digits.DATA_DIR, tmp_path / "data")
    (file,) = (tmp_path / "data").rglob("*test.tfrecord*")
    content, offsets = file.read_bytes(), tfrecord.record_offsets(file)
    start, stop = (int(offset) - 12 for offset in offsets[RECORD : RECORD + 2])

    def change(at, bit=0):
        changed = bytearray(content)
        changed[start + at] ^= 1 << bit
        file.write_bytes(changed)  # in place: who has the file open reads it
        return bytes(changed[start + 12 : stop - 4])

    change.file, change.data_dir, change.start, change.size = file, tmp_path / "data", start, stop - start
    return change


def opened(damaged, **options):
    config = DataConfig(name=digits.NAME, dir=str(damaged.data_dir), **options)
    return open_source(config, "test", image_size=8, seed=0)


def loaded(source, **options):
    """The first 12 examples, in order."""
    transform = decode.eval_transform(size=8, crop_pct=1.0, interpolation="bicubic")
    loader = Loader(source, Plan(len(source), 12, seed=0, train=False), transform, size=8, **options)
    return next(loader.batches(0, 1)), loader.skipped


def test_each_changed_byte_of_a_record_is_reported(damaged):
    assert damaged.size > 100
    source = opened(damaged)
    source.read(RECORD)
    for at in range(damaged.size):
        damaged(at, bit=at % 8)
        with pytest.raises(tfrecord.DataError, match=r"checksum of the record (length|data) differs"):
            source.read(RECORD)
        for other in (RECORD - 1, RECORD + 1):
            source.read(other)


def test_a_changed_length_is_found_when_the_file_is_opened_or_read(damaged):
    for at in range(12):
        for bit in range(8):
            damaged(at, bit)
            with pytest.raises(tfrecord.DataError, match=r"does not fit in the file|record length differs"):
                opened(damaged).read(RECORD)


def test_without_the_check_data_come_as_they_are(damaged):
    """As before the check: what the image's own format does not notice is read."""
    source, images = opened(damaged, verify_records=False), 0
    image, label = source.read(RECORD)
    for at in range(damaged.size):
        data = damaged(at)
        try:
            found = source.read(RECORD)
        except tfrecord.DataError:
            assert 12 <= at < damaged.size - 4  # of the framing nothing is compared
            continue
        assert found == tfrecord.parse_example(data, "image", "label")
        images += found[0] != image and found[1] == label
    assert images > 80


def test_a_bad_record_is_a_corrupt_example(damaged):
    source = opened(damaged)
    good, skipped = loaded(source)
    assert not skipped
    damaged(60)
    where = f"{damaged.file}, record {RECORD}, byte {damaged.start + 12}"
    message = f"example {RECORD} ({where}): checksum of the record data differs"
    with pytest.raises(tfrecord.DataError, match=rf"^{re.escape(message)}. Fix or remove the file"):
        loaded(source)
    batch, skipped = loaded(source, on_corrupt="skip")
    assert skipped == {RECORD: message}
    order = [RECORD + 1 if i == RECORD else i for i in range(12)]
    np.testing.assert_array_equal(batch["image"], good["image"][order])


def test_a_file_cut_after_it_was_opened(damaged):
    source = opened(damaged, verify_records=False)
    with damaged.file.open("rb+") as file:
        file.truncate(damaged.start + damaged.size - 7)
    with pytest.raises(tfrecord.DataError, match="the file ends 7 bytes before the record does"):
        source.read(RECORD)
