"""Data sets that tfds prepared, read without tfds and without TensorFlow.

TFRecord files are read through an index of offsets, array_record files through the format's own reader. tfds is needed
to prepare a data set, never to train.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import resource
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.data.classes import MOST_CLASSES
from jaxvision.data.tfrecord import DataError, parse_example, read_record, record_offsets
from jaxvision.errors import UserError, counted, did_you_mean
from jaxvision.files import read_regular
from jaxvision.options import LARGEST_INT
from jaxvision.resources import install_command

_INFO, _FEATURES = "dataset_info.json", "features.json"
_MOST_TEXT = 1 << 26  # bytes of a description
INSTALL = install_command("prepare")  # of what tfds needs to prepare a data set
_FORMATS = ("tfrecord", "array_record")
_MOST_BYTES = 2**26  # of a description


class _Prepared:
    """What tfds wrote about the records: splits, shard files, features and class names.

    Raises:
      UserError: there is no such split, or a slice of one that selects nothing.
      DataError: one of its files is missing or damaged.
    """

    def __init__(self, folder: Path, split: str) -> None:
        with _written_by_tfds(folder / "features.json") as file:
            features = json.loads(_text(file))["featuresDict"]["features"]
            image = [key for key, f in features.items() if f["pythonClassName"].endswith(".Image")]
            label = [key for key, f in features.items() if f["pythonClassName"].endswith(".ClassLabel")]
            if len(image) != 1 or len(label) != 1:
                raise UserError(f"{folder} is no classification data set: image features {image}, class labels {label}")
            self.image_key, self.label_key = image[0], label[0]
            self.num_classes = int(features[self.label_key]["classLabel"]["numClasses"])
            if not 1 <= self.num_classes <= MOST_CLASSES:
                raise ValueError(f"{self.num_classes} classes; at most {MOST_CLASSES} are possible")
        with _written_by_tfds(folder / f"{self.label_key}.labels.txt") as file:
            self.class_names = [str(i) for i in range(self.num_classes)]
            if file.exists():
                self.class_names = _text(file).removesuffix("\n").split("\n")
            if len(self.class_names) != self.num_classes:
                raise ValueError(f"{counted(len(self.class_names), 'name')} for {self.num_classes} classes")

        with _written_by_tfds(folder / "dataset_info.json") as file:
            info = json.loads(_text(file))
            splits = {s["name"]: s for s in info["splits"]}
            name = split.partition("[")[0]
            if name not in splits:
                there = ", ".join(splits)
                raise UserError(f"{folder} has no split {name!r}.{did_you_mean(name, splits)} It has: {there}")
            self.file_format = info.get("fileFormat", "tfrecord")
            if self.file_format not in _FORMATS:
                raise UserError(f"{folder} has the format {self.file_format!r}; {' and '.join(_FORMATS)} can be read")
            self.shard_lengths = [int(n) for n in splits[name].get("shardLengths", ())]
            if not all(0 <= n <= LARGEST_INT for n in self.shard_lengths):
                raise ValueError(f"a file of {min(self.shard_lengths)} to {max(self.shard_lengths)} records")
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
            missing = [shard for shard in self.files if not shard.is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {count} {name} files are missing, first {missing[0]}. "
                f"Copy them, or prepare the data set again."
            )
        self.start, self.stop = _slice(split, sum(self.shard_lengths), folder)


@contextlib.contextmanager
def _written_by_tfds(file: Path) -> Iterator[Path]:
    """Makes one clear error of whatever goes wrong with a file that tfds wrote."""
    try:
        yield file
    except UserError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        what = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else f"is damaged: {error}"
        what = f"is damaged: it has no {error}" if isinstance(error, LookupError) else what
        raise DataError(f"{file} {what}. Copy it again, or prepare the data set again.") from error


def _text(file: Path) -> str:
    return read_regular(file, most=_MOST_BYTES).decode()


def _slice(split: str, total: int, folder: Path) -> tuple[int, int]:
    """The first example of a split such as ``train[:99%]``, and the one after its last; ``total`` is all it has."""
    name, bracket, rest = split.partition("[")
    if not bracket:
        first, last = 0, total
    else:
        match = re.fullmatch(r"(?:([0-9]{1,12})(%?))?:(?:([0-9]{1,12})(%?))?\]", rest)
        if match is None:
            raise UserError(f'{split!r} is no slice of {name}: write "{name}[A:B]" with numbers or percentages')
        first, last = (
            default if number is None else round(int(number) * total / 100) if percent else int(number)
            for number, percent, default in ((match[1], match[2], 0), (match[3], match[4], total))
        )
    if not first < last <= total:
        which = "selects none" if first >= min(last, total) else "is more than all"
        raise UserError(f"split {split!r} {which} of the {total} examples of {name} in {folder}")
    return first, last


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
    opened = []
    try:
        for file in files:
            opened.append(os.open(file, os.O_RDONLY))
        return opened
    except OSError as error:
        _close_all(opened)
        if error.errno != errno.EMFILE:
            raise
        raise UserError(
            f"{len(files)} data files must be open at once, the limit is {hard}: raise it (ulimit -n)"
        ) from error


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class TFRecordSource(_ShardedSource):
    """TFRecord shards as tfds wrote them; ``verify``: whether a record's checksums are compared when it is read."""

    def __init__(self, prepared: _Prepared, *, verify: bool) -> None:
        super().__init__(prepared)
        self.verify = verify
        self.offsets = [record_offsets(file) for file in prepared.files]
        self.check_counts([len(offsets) - 1 for offsets in self.offsets])
        # Open as long as the source is there: os.pread on a shared descriptor needs no lock.
        self._fds = _open_all(prepared.files)
        weakref.finalize(self, _close_all, self._fds).atexit = False  # threads may still read then

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
    """array_record shards as tfds wrote them; the format's reader always compares checksums."""

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
    name: str, data_dir: Path, split: str, *, verify: bool = True, others: Iterable[str] = ()
) -> TFRecordSource | ArrayRecordSource:
    """A data set prepared by tfds.

    Args:
      name: ``dataset``, ``dataset/config``, or either with ``:version``.
      data_dir: holds it, and others.
      split: as ``train`` or ``train[:99%]``.
      others: names that the message about a missing one may suggest, too.
      verify: compare each TFRecord that is read with its checksums; array_record always does.

    Args:
      name: as tfds writes it.
      data_dir: tfds's.
      split: name of a split, or a slice of one.
      verify: whether the checksums of each TFRecord that is read are compared.
      others: names that may be meant instead, for the message.

    Raises:
      UserError: there is no such data set or split, or its files are missing, damaged or not readable.
    """
    base, _, version = name.partition(":")
    root = data_dir / base
    if version and not re.fullmatch(r"([0-9]+|\*)(\.([0-9]+|\*)){2}", version):
        raise UserError(f"{name!r} names no version of {base}: write {base}:1.0.0, or a star for a number")
    versions = [p for p in root.glob(version or "*.*.*") if re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", p.name)]
    if not versions:
        raise UserError(missing_data_message(base, data_dir, others))
    whole = [p for p in versions if (p / "dataset_info.json").exists()]
    prepared = _Prepared(max(whole or versions, key=lambda p: [int(part) for part in p.name.split(".")]), split)
    try:
        if prepared.file_format == "array_record":
            return ArrayRecordSource(prepared)
        return TFRecordSource(prepared, verify=verify)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


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
