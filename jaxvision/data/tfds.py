"""Data sets that tfds prepared, read without tfds and without TensorFlow.

TFRecord files are read through an index of offsets, array_record files through the format's own reader. tfds is needed
to prepare a data set, never to train.
"""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import threading
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.classes import MOST_CLASSES
from jaxvision.data.tfrecord import DataError, parse_example, read_record, record_offsets
from jaxvision.errors import UserError, did_you_mean
from jaxvision.files import read_regular
from jaxvision.resources import install_command

_INFO, _FEATURES = "dataset_info.json", "features.json"
_MOST_TEXT = 1 << 26  # bytes of a description
INSTALL = install_command("prepare")  # of what tfds needs to prepare a data set


class _Prepared:
    """What tfds wrote about the records: splits, shard files, features and class names."""

    def __init__(self, folder: Path, split: str) -> None:
        try:
            self._describe(folder, split)
        except UserError:
            raise
        except Exception as error:  # of a damaged or foreign description: any of its fields may be missing or strange
            raise DataError(
                f"{folder}: {_INFO} or {_FEATURES} is damaged or not as tfds writes it ({type(error).__name__}: "
                f"{error}). Copy them again, or prepare the data set again."
            ) from error
        missing = [file for file in self.files if not file.is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(self.files)} files of {split} are missing, first {missing[0]}. "
                f"Copy them, or prepare the data set again."
            )

    def _describe(self, folder: Path, split: str) -> None:
        info, described = _read_json(folder / _INFO), _read_json(folder / _FEATURES)
        features = described["featuresDict"]["features"]
        image = [key for key, f in features.items() if f["pythonClassName"].endswith(".Image")]
        label = [key for key, f in features.items() if f["pythonClassName"].endswith(".ClassLabel")]
        if len(image) != 1 or len(label) != 1:
            raise UserError(f"{folder} is no classification data set: image features {image}, class labels {label}")
        self.image_key, self.label_key = image[0], label[0]
        self.num_classes = int(features[self.label_key]["classLabel"]["numClasses"])
        if not 0 < self.num_classes <= MOST_CLASSES:
            raise ValueError(f"it has {self.num_classes} classes")
        names = folder / f"{self.label_key}.labels.txt"
        lines = read_regular(names, most=_MOST_TEXT).decode().split("\n") if names.exists() else []
        self.class_names = lines[: self.num_classes] or [str(i) for i in range(self.num_classes)]

        splits = {s["name"]: s for s in info["splits"]}
        name = split.partition("[")[0]
        if name not in splits:
            raise UserError(f"{folder} has no split {name!r}.{did_you_mean(name, splits)} It has: {', '.join(splits)}")
        self.file_format = info.get("fileFormat", "tfrecord")
        self.shard_lengths = [int(n) for n in splits[name]["shardLengths"]]
        if min(self.shard_lengths, default=0) < 0:
            raise ValueError(f"a shard of {min(self.shard_lengths)} examples")
        total = sum(self.shard_lengths)
        self.start, self.stop = _slice_bounds(split, total)
        if self.start >= self.stop:
            raise UserError(f"split {split!r} selects none of the {total} examples of {name} in {folder}")
        template = splits[name].get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        count = len(self.shard_lengths)
        self.files = [
            folder
            / template.format(
                DATASET=info["name"],
                SPLIT=name,
                FILEFORMAT=self.file_format,
                SHARD_X_OF_Y=f"{i:05d}-of-{count:05d}",
            )
            for i in range(count)
        ]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(read_regular(path, most=_MOST_TEXT))
    except FileNotFoundError:
        raise DataError(f"{path} is missing. Copy it, or prepare the data set again.") from None


def _slice_bounds(split: str, total: int) -> tuple[int, int]:
    """First and last + 1 of the examples that a split such as "train[:99%]" or "train[100:200]" selects."""
    if "[" not in split:
        return 0, total
    match = re.fullmatch(r"\w+\[(\d{0,18})(%?):(\d{0,18})(%?)\]", split)
    if match is None or any(p and not 0 <= int(n or 0) <= 100 for n, p in (match.group(1, 2), match.group(3, 4))):
        name = split.partition("[")[0]
        raise UserError(f'split {split!r} must be as "{name}[:99%]", "{name}[99%:]" or "{name}[100:200]"')

    def bound(number: str, percent: str, default: int) -> int:
        if not number:
            return default
        return min(round(int(number) * total / 100) if percent else int(number), total)

    return bound(match[1], match[2], 0), bound(match[3], match[4], total)


class _ShardedSource:
    """Common part of the tfds sources: global index to (shard, record)."""

    def __init__(self, prepared: _Prepared) -> None:
        self.prepared = prepared
        self.num_classes, self.class_names = prepared.num_classes, prepared.class_names
        self.ends = np.cumsum(prepared.shard_lengths)

    def __len__(self) -> int:
        return self.prepared.stop - self.prepared.start

    def locate(self, index: int) -> tuple[int, int]:
        index += self.prepared.start
        shard = int(np.searchsorted(self.ends, index, side="right"))
        return shard, index - (int(self.ends[shard - 1]) if shard else 0)

    def check_counts(self, counts: Sequence[int]) -> None:
        for file, found, expected in zip(self.prepared.files, counts, self.prepared.shard_lengths, strict=True):
            if found != expected:
                raise DataError(f"{file}: truncated: {found} records, dataset_info.json says {expected}")


def _open_all(files: Sequence[Path]) -> list[int]:
    """Descriptors of all files, with the soft limit raised by as many: ImageNet's 1088 shards exceed the usual 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = soft + len(files)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
    try:
        return [os.open(file, os.O_RDONLY) for file in files]
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise UserError(
            f"{len(files)} data files must be open at once, the limit is {hard}: raise it (ulimit -n)"
        ) from error


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class TFRecordSource(_ShardedSource):
    """TFRecord shards as tfds wrote them.

    Args:
      prepared: the data set.
      verify: compare each record that is read with its checksums.
    """

    def __init__(self, prepared: _Prepared, *, verify: bool) -> None:
        super().__init__(prepared)
        self.verify = verify
        self.offsets = [record_offsets(file) for file in prepared.files]
        self.check_counts([len(offsets) - 1 for offsets in self.offsets])
        # Open as long as the source lives: os.pread on a shared descriptor needs no lock.
        self._fds = _open_all(prepared.files)
        weakref.finalize(self, _close_all, self._fds)

    def _record(self, index: int) -> tuple[int, int, int, int]:
        shard, record = self.locate(index)
        offset = int(self.offsets[shard][record])
        return shard, record, offset, int(self.offsets[shard][record + 1]) - offset - 16

    def read(self, index: int) -> tuple[memoryview, int]:
        shard, _, offset, length = self._record(index)
        data = read_record(self._fds[shard], offset, length, verify=self.verify)
        return parse_example(data, self.prepared.image_key, self.prepared.label_key)

    def where(self, index: int) -> str:
        shard, record, offset, _ = self._record(index)
        return f"{self.prepared.files[shard]}, record {record}, byte {offset}"


class ArrayRecordSource(_ShardedSource):
    """array_record shards as tfds wrote them; the format checks its own checksums."""

    def __init__(self, prepared: _Prepared) -> None:
        super().__init__(prepared)
        self._local = threading.local()  # a reader is not safe to share between threads
        counts = []
        for shard, file in enumerate(prepared.files):
            try:
                counts.append(self._reader(shard).num_records())
            except Exception as error:  # the C++ reader raises RuntimeError and others
                raise DataError(f"{file}: truncated or corrupt array_record file: {error}") from error
        self.check_counts(counts)

    def _reader(self, shard: int) -> object:
        from array_record.python.array_record_module import ArrayRecordReader

        readers = self._local.__dict__.setdefault("readers", {})
        if shard not in readers:
            readers[shard] = ArrayRecordReader(str(self.prepared.files[shard]))
        return readers[shard]

    def read(self, index: int) -> tuple[memoryview, int]:
        shard, record = self.locate(index)
        data = self._reader(shard).read([record])[0]
        return parse_example(data, self.prepared.image_key, self.prepared.label_key)

    def where(self, index: int) -> str:
        shard, record = self.locate(index)
        return f"{self.prepared.files[shard]}, record {record}"


def tfds_source(
    name: str, data_dir: Path, split: str, *, others: Iterable[str] = (), verify: bool = True
) -> TFRecordSource | ArrayRecordSource:
    """A data set prepared by tfds.

    Args:
      name: ``dataset``, ``dataset/config``, or either with ``:version``.
      data_dir: holds it, and others.
      split: as ``train`` or ``train[:99%]``.
      others: names that the message about a missing one may suggest, too.
      verify: compare each TFRecord that is read with its checksums; array_record always does.

    Raises:
      UserError: there is none.
    """
    base, _, version = name.partition(":")
    root = data_dir / base
    versions = [p for p in root.glob(version or "*.*.*") if (p / _INFO).is_file()]
    if not versions:
        raise UserError(missing_data_message(base, data_dir, others))
    folder = max(versions, key=lambda p: [int(part) if part.isdigit() else 0 for part in p.name.split(".")])
    prepared = _Prepared(folder, split)
    return (
        ArrayRecordSource(prepared)
        if prepared.file_format == "array_record"
        else TFRecordSource(prepared, verify=verify)
    )


def missing_data_message(name: str, data_dir: Path, others: Iterable[str] = ()) -> str:
    """How to get a data set that is not there; ``others`` are names that may be meant instead."""
    if name == "imagenet2012":
        how = (
            "Download ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from image-net.org (free account), then run\n"
            f"  {INSTALL}\n"
            "  jaxvision prepare-imagenet --train ILSVRC2012_img_train.tar "
            f"--val ILSVRC2012_img_val.tar --out {data_dir}"
        )
    else:
        how = (
            "Prepare it with\n"
            f"  {INSTALL}\n"
            f"  python -c 'import tensorflow_datasets as tfds; "
            f'tfds.builder("{name}", data_dir="{data_dir}").download_and_prepare()\''
        )
    there = [p.name for p in data_dir.iterdir() if p.is_dir()] if data_dir.is_dir() else []
    known = {"imagenet2012", *others, *there}
    near = did_you_mean(name, sorted(known)) if name not in known else ""
    return (
        f"no data set {name!r} in {data_dir}.{near} {how}\n"
        "or name the folder that holds it (--config.data.dir; of a tool, --data-dir), or train with FILE:digits, "
        "which needs no download."
    )
