"""Data sets whose files are damaged, missing or strange: one clear error, and no wrong example in training."""

import contextlib
import gc
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxvision.data import digits, sources
from jaxvision.data.config import DataConfig
from jaxvision.data.tfrecord import DataError
from jaxvision.errors import UserError

FOLDER = next(path.parent for path in digits.DATA_DIR.rglob("dataset_info.json"))
ALL = range(360)


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the packaged digits, and a place of its own for indices."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copytree(FOLDER, tmp_path / digits.NAME / "1.0.0")


def opened(copy, **options):
    return sources.open_source(
        DataConfig(name=digits.NAME, dir=str(copy.parent.parent), **options), "test", image_size=8, seed=0
    )


def examples(source):
    return [(bytes(image), label) for image, label in map(source.read, ALL)]


def test_every_flipped_bit_of_a_record_is_found_when_it_is_read(copy):
    """400 flips, as in training; without the checksums some change pixels or labels unnoticed."""
    source = opened(copy)
    expected, rng = examples(source), np.random.default_rng(0)
    file = next(copy.glob("*-test.tfrecord*"))
    content = file.read_bytes()
    lengths = np.diff(source.offsets[0]) - 16
    unnoticed = 0
    for _ in range(400):
        index = int(rng.integers(len(ALL)))
        # Anywhere in the record: length, its checksum, data, their checksum.
        place = int(source.offsets[0][index]) - 12 + int(rng.integers(lengths[index] + 16))
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        with file.open("r+b") as written:  # the same file, which both sources have open
            written.write(changed)
        source.verify = True
        with pytest.raises(DataError, match=r"checksum of the record (length|data) differs"):
            source.read(index)
        source.verify = False
        with contextlib.suppress(DataError):
            unnoticed += examples_differ(source.read(index), expected[index])
    assert unnoticed > 10


def examples_differ(found, expected):
    return (bytes(found[0]), found[1]) != expected


def test_the_switch_is_passed_on(copy):
    assert opened(copy).verify and not opened(copy, verify_records=False).verify


def test_a_file_that_became_shorter_is_told(copy):
    source = opened(copy)
    file = next(copy.glob("*-test.tfrecord*"))
    os.truncate(file, file.stat().st_size - 20)
    with pytest.raises(DataError, match="the file ends 20 bytes before the record"):
        source.read(359)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_descriptions_are_one_error(name, copy):
    content, rng = (copy / name).read_bytes(), np.random.default_rng(0)
    document = json.loads(content)
    strange = [b"", b"[]", b"null", b"{}", b"\xff\xfe", content[: len(content) // 2], b"[" * 100_000]
    strange += [
        json.dumps(document | {key: value}).encode() for key in document for value in (None, 7, [], {}, [[]], "x")
    ]
    for _ in range(100):
        changed = bytearray(content)
        changed[int(rng.integers(len(content)))] = int(rng.integers(256))
        strange.append(bytes(changed))
    refused = 0
    for bad in strange:
        (copy / name).write_bytes(bad)
        try:
            examples(opened(copy))
        except UserError as error:  # whatever it is, it names the folder
            refused += 1
            assert str(copy.parent.parent) in str(error)
    assert refused > len(strange) / 2
    (copy / name).unlink()
    with pytest.raises(
        UserError, match=f"{name} is missing. Copy it" if name == "features.json" else "Prepare it with"
    ):
        opened(copy)
    os.mkfifo(copy / name)
    with pytest.raises(UserError):
        opened(copy)


@pytest.mark.parametrize("count", [0, -1, 2**40])
def test_numbers_of_classes_that_make_no_sense(count, copy):
    text = (copy / "features.json").read_text()
    (copy / "features.json").write_text(text.replace('"numClasses": "10"', f'"numClasses": "{count}"'))
    assert (copy / "features.json").read_text() != text
    with pytest.raises(DataError, match=f"it has {count} classes"):
        opened(copy)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_shards_are_closed_with_their_source(copy):
    before = descriptors()
    source = opened(copy)
    assert descriptors() == before + 1
    del source
    gc.collect()
    assert descriptors() == before


def arrays(path, **changes):
    rng = np.random.default_rng(0)
    values = {"train_images": rng.integers(0, 256, (9, 8, 8, 3), np.uint8), "train_labels": np.arange(9) % 3}
    np.savez_compressed(path, **values | changes)
    return path.read_bytes()


def test_damaged_arrays_are_one_error(tmp_path):
    path, rng = tmp_path / "d.npz", np.random.default_rng(0)
    content = arrays(path)
    expected = sources.npz_source(path, "train")
    strange = [b"", b"PK", content[:100], content[: len(content) // 2], content[:-10], rng.bytes(1000)]
    for _ in range(300):
        changed = bytearray(content)
        for place in rng.integers(0, len(content), 2):
            changed[place] ^= 1 << rng.integers(8)
        strange.append(bytes(changed))
    refused = 0
    for bad in strange:
        path.write_bytes(bad)
        try:
            found = sources.npz_source(path, "train")
            assert np.array_equal(found.images, expected.images) and np.array_equal(found.labels, expected.labels)
        except UserError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 100
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"is not a readable .npz file"):
        sources.npz_source(path, "train")


def test_labels_that_are_no_classes_make_no_names(tmp_path):
    for label in (2**40, 1_000_000, 2**63 - 1):
        arrays(tmp_path / "d.npz", train_labels=np.array([0] * 8 + [label]))
        with pytest.raises(DataError, match=f"labels must be below 1000000, the largest is {label}"):
            sources.npz_source(tmp_path / "d.npz", "train")


def test_a_record_that_is_not_where_the_index_says_is_told(copy):
    source = opened(copy)
    source.offsets[0] = source.offsets[0].copy()
    source.offsets[0][1] += 1
    for index in (0, 1):
        with pytest.raises(DataError, match="checksum of the record length differs"):
            source.read(index)
