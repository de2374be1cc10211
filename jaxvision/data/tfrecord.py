"""Random access to TFRecord files and a parser for ``tf.train.Example``, without TensorFlow.

Layout of a record, little-endian: length of the data (uint64), masked CRC-32C of the length (uint32), data, masked
CRC-32C of the data (uint32).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxvision.errors import UserError
from jaxvision.files import read_regular, replace_file

_HEADER = struct.Struct("<QI")
OVERHEAD = 16  # bytes: 12 before the data, 4 behind them
_MALFORMED = "malformed protocol buffer"
_MOST_VARINT_BYTES = 10


class DataError(UserError):
    """A data file or record that cannot be used; the message names file, record and byte."""


def cache_dir() -> Path:
    """Where offset indices and compiled programs are cached: ``$XDG_CACHE_HOME/jaxvision``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxvision"


def record_offsets(path: Path) -> np.ndarray:
    """Byte offsets of the data of all records, and file size + 12 as the last entry, int64 (records + 1,).

    The last entry is where the data of a further record would begin, so the data of record i are
    ``offsets[i + 1] - offsets[i] - 16`` bytes. The result is cached by path, size and modification time of the file. A
    ``UserWarning`` says where the cached one is damaged; it is made again.

    Raises:
      DataError: a record does not fit in the file; the message names record and byte.
    """
    stat = path.stat()
    key = hashlib.sha256(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:32]
    cached = cache_dir() / "index" / f"{key}.offsets"
    try:
        return _unpack_index(read_regular(cached, most=stat.st_size + 12), stat.st_size)
    except OSError:
        pass
    except ValueError as error:
        warnings.warn(f"the index {cached} of {path} is damaged ({error}): it is made again", stacklevel=2)
    offsets = np.array([*_scan(path, stat.st_size), stat.st_size + 12], np.int64)
    with contextlib.suppress(OSError):  # the cache only saves time
        replace_file(cached, lambda path: path.write_bytes(_pack_index(offsets)))
    return offsets


def _pack_index(offsets: np.ndarray) -> bytes:
    data = offsets.astype("<i8").tobytes()
    return data + struct.pack("<I", masked_crc(data))


def _unpack_index(content: bytes, size: int) -> np.ndarray:
    """The offsets that :func:`_pack_index` packed; ``size`` is that of the file they are of."""
    data, crc = content[:-4], content[-4:]
    if len(data) % 8 or not data or struct.pack("<I", masked_crc(data)) != crc:
        raise ValueError("its checksum differs")
    offsets = np.frombuffer(data, "<i8").astype(np.int64)
    if offsets[0] != 12 or offsets[-1] != size + 12 or offsets.min() < 12 or (np.diff(offsets) < OVERHEAD).any():
        raise ValueError("its offsets are not those of such a file")
    return offsets


def _scan(path: Path, size: int) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        if hasattr(os, "posix_fadvise"):
            # Otherwise the system reads 128 KiB ahead for each header of 12 bytes.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        position = record = 0
        while position < size:
            header = os.pread(fd, 12, position)
            length = _HEADER.unpack(header)[0] if len(header) == 12 else size
            if position + OVERHEAD + length > size:
                raise DataError(
                    f"{path}: truncated or corrupt TFRecord: record {record} at byte {position} "
                    f"does not fit in the file ({size} bytes). Copy the file again, or prepare the data set again."
                )
            yield position + 12
            position += OVERHEAD + length
            record += 1
    finally:
        os.close(fd)


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and offset as TFRecord stores it."""
    import google_crc32c

    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_record(fd: int, offset: int, length: int, *, verify: bool) -> bytes:
    """The data of a record.

    Args:
      fd: descriptor of the file.
      offset, length: of the data, in bytes.
      verify: whether the two checksums are compared.

    Raises:
      DataError: a checksum differs, or the file has become shorter.
    """
    raw = os.pread(fd, length + OVERHEAD, offset - 12)
    if len(raw) != length + OVERHEAD:
        raise DataError(f"the file ends {length + OVERHEAD - len(raw)} bytes before the record does")
    data = raw[12:-4]
    if verify:
        stored_length, length_crc = _HEADER.unpack(raw[:12])
        if stored_length != length or masked_crc(raw[:8]) != length_crc:
            raise DataError("checksum of the record length differs")
        if masked_crc(data) != int.from_bytes(raw[-4:], "little"):
            raise DataError("checksum of the record data differs")
    return data


def parse_example(data: bytes, image_key: str, label_key: str) -> tuple[memoryview, int]:
    """Encoded image and label of a serialised ``tf.train.Example``, which is a protocol buffer.

    Args:
      data: the serialised example.
      image_key, label_key: names of the two features.

    Raises:
      DataError: malformed data, or a feature is missing.
    """
    image = label = None
    view = memoryview(data)
    for features in _fields(view, 1):
        for entry in _fields(features, 1):
            key = bytes(next(_fields(entry, 1), b"")).decode(errors="replace")  # an empty one is not written
            if key == image_key:
                image = _field(_field(_field(entry, 2), 1), 1)
            elif key == label_key:
                label = _first_int(_field(_field(entry, 2), 3))
    if image is None or label is None:
        raise DataError(f"the record has no {image_key!r} and {label_key!r}")
    return image, label


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """An integer of 64 bits and the place after it; more than ten bytes, whose time is quadratic, are refused."""
    value = 0
    for i in range(min(_MOST_VARINT_BYTES, len(view) - at)):
        byte = view[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at + i + 1
    raise DataError(_MALFORMED)


def _field(view: memoryview, wanted: int) -> memoryview:
    """Content of the first length-delimited field with number ``wanted``."""
    for content in _fields(view, wanted):
        return content
    raise DataError(_MALFORMED)


def _fields(view: memoryview, wanted: int) -> Iterator[memoryview]:
    """Contents of the length-delimited fields with number ``wanted`` of a message."""
    at, size = 0, len(view)
    while at < size:
        tag, at = _varint(view, at)
        number, kind = tag >> 3, tag & 7
        if kind == 2:
            length, at = _varint(view, at)
            if at + length > size:
                raise DataError(_MALFORMED)
            if number == wanted:
                yield view[at : at + length]
            at += length
        elif kind == 0:
            _, at = _varint(view, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise DataError(_MALFORMED)
    if at > size:
        raise DataError(_MALFORMED)


def _first_int(int64_list: memoryview) -> int:
    """First value of an ``Int64List``, packed or not."""
    tag, at = _varint(int64_list, 0)
    if tag == 1 << 3 | 2:
        int64_list, at = _field(int64_list, 1), 0
    elif tag != 1 << 3:
        raise DataError(_MALFORMED)
    value, _ = _varint(int64_list, at)
    return value - (1 << 64) if value >> 63 else value
