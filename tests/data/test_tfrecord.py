"""TFRecord files: the cached index of offsets, checksums, and records that are no examples."""

import os
import shutil
import struct

import numpy as np
import pytest

from jaxvision.data import tfrecord


def record(data):
    length = struct.pack("<Q", len(data))
    crc = tfrecord.masked_crc
    return length + struct.pack("<I", crc(length)) + data + struct.pack("<I", crc(data))


@pytest.fixture
def shard(tmp_path, monkeypatch):
    """A file of 40 records, whose index is cached in a folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "x.tfrecord"
    path.write_bytes(b"".join(record(bytes(7 * i % 50)) for i in range(40)))
    return path


def index_of(shard):
    offsets = tfrecord.record_offsets(shard)
    (cached,) = (tfrecord.cache_dir() / "index").iterdir()
    return offsets, cached


def damaged(content, rng):
    at = int(rng.integers(len(content)))
    changed = bytearray(content)
    changed[at] ^= 1 << rng.integers(8)
    word = at // 8 * 8
    yield bytes(changed)
    yield content[:at]
    yield content + content[at:]
    yield content[:word] + content[word + 8 :]
    yield content[:word] + bytes(8) + content[word + 8 :]
    yield rng.bytes(len(content))


def test_a_damaged_index_is_made_again_and_told(shard):
    offsets, cached = index_of(shard)
    content, rng = cached.read_bytes(), np.random.default_rng(0)
    np.testing.assert_array_equal(tfrecord.record_offsets(shard), offsets)
    for _ in range(20):
        for bad in damaged(content, rng):
            cached.write_bytes(bad)
            with pytest.warns(UserWarning, match=f"the index {cached} of {shard} is damaged .*: it is made again"):
                np.testing.assert_array_equal(tfrecord.record_offsets(shard), offsets)
            assert cached.read_bytes() == content
    np.testing.assert_array_equal(tfrecord.record_offsets(shard), offsets)  # without a warning


@pytest.mark.parametrize(
    "wrong", [[12, 40], [16, 10_000], [12, 100, 90, 10_000], [12, 20, 10_000], [-4, 10_000], [12]], ids=str
)
def test_an_index_of_another_file_is_made_again(wrong, shard):
    """Its checksum is right, its offsets are not."""
    offsets, cached = index_of(shard)
    size = shard.stat().st_size
    wrong = np.array([size + 12 if offset == 10_000 else offset for offset in wrong])
    cached.write_bytes(tfrecord._pack_index(wrong))
    with pytest.warns(UserWarning, match="its offsets are not those of such a file"):
        np.testing.assert_array_equal(tfrecord.record_offsets(shard), offsets)


def test_what_is_no_file_in_the_place_of_an_index(shard):
    offsets, cached = index_of(shard)
    for make in (os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")):
        cached.unlink() if not cached.is_dir() else shutil.rmtree(cached)
        make(cached)
        with pytest.warns(UserWarning, match="is damaged .not a regular file but a"):
            np.testing.assert_array_equal(tfrecord.record_offsets(shard), offsets)


def test_an_empty_file_has_no_records(shard):
    shard.write_bytes(b"")
    assert tfrecord.record_offsets(shard).tolist() == tfrecord.record_offsets(shard).tolist() == [12]
