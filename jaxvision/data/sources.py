"""Sources: random access by index to encoded images (or uint8 arrays) and labels.

Prepared tfds data sets are read without TensorFlow: TFRecord through an offset index,
array_record through its own reader. tfds is needed to prepare a data set, never to train.
"""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from jaxvision.data.tfrecord import DataError, check_record, parse_example, record_offsets
from jaxvision.errors import UserError, did_you_mean

Raw = bytes | memoryview | np.ndarray
INSTALL = "pip install -e '.[prepare]'"  # of what tfds needs to prepare a data set
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class Source(Protocol):
    """What the loader reads from. ``num_classes`` and ``class_names`` describe the labels."""

    num_classes: int
    class_names: Sequence[str]

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[Raw, int]:
        """Encoded image (bytes-like) or a uint8 (H, W, 3) array, and the label."""

    def where(self, index: int) -> str:
        """Where example ``index`` lies, for messages."""

    def verify(self, index: int) -> str | None:
        """What is wrong with the stored bytes (checksums), or None."""


class Subset:
    """Some examples of another source, in the order of ``ids``."""

    def __init__(self, source: Source, ids: np.ndarray) -> None:
        self.source, self.ids = source, ids
        self.num_classes, self.class_names = source.num_classes, source.class_names

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> tuple[Raw, int]:
        return self.source.read(int(self.ids[index]))

    def where(self, index: int) -> str:
        return self.source.where(int(self.ids[index]))

    def verify(self, index: int) -> str | None:
        return self.source.verify(int(self.ids[index]))


def only_fold(source: Source, k: int, n: int) -> Subset:
    """The k-th (from 1) of n equal random parts of a source; the parts are the same in every run."""
    return Subset(source, np.sort(_shuffled(source, n)[k - 1 :: n]))


def without_fold(source: Source, k: int, n: int) -> Subset:
    """What :func:`only_fold` leaves."""
    return Subset(source, np.sort(np.delete(_shuffled(source, n), np.s_[k - 1 :: n])))


def _shuffled(source: Source, n: int) -> np.ndarray:
    if len(source) < 2 * n:
        raise UserError(f"{len(source)} examples are too few for {n} folds")
    return np.random.default_rng(0).permutation(len(source))


class ArraySource:
    """Images in memory: uint8 (N, H, W) or (N, H, W, 1 or 3), labels (N,)."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, *, class_names: Sequence[str] = (), name: str = "array"
    ) -> None:
        problems = []
        if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))):
            problems.append(f"images must be uint8 (N, H, W) or (N, H, W, 1|3), got {images.dtype} {images.shape}")
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
            problems.append(
                f"labels must be {images.shape[:1]} non-negative integers, got {labels.dtype} {labels.shape}"
            )
        if problems:
            raise DataError(f"{name}: " + "; ".join(problems))
        images = images[..., None] if images.ndim == 3 else images
        self.images = np.broadcast_to(images, (*images.shape[:3], 3))
        self.labels = labels
        self.num_classes = max(int(labels.max(initial=0)) + 1, len(class_names))
        self.class_names = list(class_names) or [str(i) for i in range(self.num_classes)]
        self.name = name

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> tuple[Raw, int]:
        return np.ascontiguousarray(self.images[index]), int(self.labels[index])

    def where(self, index: int) -> str:
        return f"{self.name}, image {index}"

    def verify(self, index: int) -> str | None:
        return None


class SyntheticSource:
    """Noise images with a class-dependent tint, made on demand: for benchmarks and dry runs."""

    def __init__(self, num_examples: int, num_classes: int, size: int, *, seed: int) -> None:
        self.num_examples, self.num_classes, self.size, self.seed = num_examples, num_classes, size, seed
        self.class_names = [str(i) for i in range(num_classes)]

    def __len__(self) -> int:
        return self.num_examples

    def read(self, index: int) -> tuple[Raw, int]:
        rng = np.random.default_rng([self.seed, index])
        label = int(rng.integers(self.num_classes))
        tint = np.random.default_rng([self.seed, 1 << 40, label]).integers(0, 160, (1, 1, 3))
        noise = rng.integers(0, 96, (self.size, self.size, 3))
        return (tint + noise).astype(np.uint8), label

    def where(self, index: int) -> str:
        return f"synthetic image {index}"

    def verify(self, index: int) -> str | None:
        return None


class FolderSource:
    """``DIR/SPLIT/CLASS/*.jpg``: one folder a class, classes in sorted order."""

    def __init__(self, root: Path, split: str) -> None:
        folder = root / split
        if not folder.is_dir():
            found = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
            raise UserError(
                f"no folder {folder}. Expected {root}/train/<class>/*.jpg and {root}/val/<class>/*.jpg"
                + (
                    f"; {root} holds: {', '.join(found[:8]) or 'no folders'}."
                    if root.is_dir()
                    else f"; {root} is missing."
                )
            )
        self.class_names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        self.num_classes = len(self.class_names)
        self.paths: list[str] = []
        labels = []
        for label, name in enumerate(self.class_names):
            files = sorted(e.path for e in os.scandir(folder / name) if e.name.lower().endswith(IMAGE_SUFFIXES))
            self.paths += files
            labels += [label] * len(files)
        if not self.paths:
            raise UserError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}) in class folders")
        self.labels = np.array(labels)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> tuple[Raw, int]:
        with open(self.paths[index], "rb") as file:  # noqa: PTH123  (Path costs more than the read)
            return file.read(), int(self.labels[index])

    def where(self, index: int) -> str:
        return self.paths[index]

    def verify(self, index: int) -> str | None:
        return None


class _Prepared:
    """What tfds wrote beside the records: splits, shard files, features and class names."""

    def __init__(self, folder: Path, split: str) -> None:
        info = json.loads((folder / "dataset_info.json").read_text())
        features = json.loads((folder / "features.json").read_text())["featuresDict"]["features"]
        image = [key for key, f in features.items() if f["pythonClassName"].endswith(".Image")]
        label = [key for key, f in features.items() if f["pythonClassName"].endswith(".ClassLabel")]
        if len(image) != 1 or len(label) != 1:
            raise UserError(f"{folder} is no classification data set: image features {image}, class labels {label}")
        self.image_key, self.label_key = image[0], label[0]
        self.num_classes = int(features[self.label_key]["classLabel"]["numClasses"])
        names = folder / f"{self.label_key}.labels.txt"
        self.class_names = names.read_text().split("\n")[: self.num_classes] if names.exists() else []
        self.class_names = self.class_names or [str(i) for i in range(self.num_classes)]

        name = split
        if match := re.fullmatch(r"(\w+)\[(\d*)(%?):(\d*)(%?)\]", split):
            name = match[1]
        splits = {s["name"]: s for s in info["splits"]}
        if name not in splits:
            raise UserError(f"{folder} has no split {name!r}.{did_you_mean(name, splits)} It has: {', '.join(splits)}")
        self.file_format = info.get("fileFormat", "tfrecord")
        self.shard_lengths = [int(n) for n in splits[name]["shardLengths"]]
        total = sum(self.shard_lengths)

        def bound(number: str, percent: str, default: int) -> int:
            if not number:
                return default
            return min(round(int(number) * total / 100) if percent else int(number), total)

        self.start = bound(match[2], match[3], 0) if match else 0
        self.stop = bound(match[4], match[5], total) if match else total
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
        missing = [file for file in self.files if not file.is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {count} {name} files are missing, first {missing[0]}. "
                f"Copy them, or prepare the data set again."
            )


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


class TFRecordSource(_ShardedSource):
    """TFRecord shards as tfds wrote them."""

    def __init__(self, prepared: _Prepared) -> None:
        super().__init__(prepared)
        self.offsets = [record_offsets(file) for file in prepared.files]
        self.check_counts([len(offsets) - 1 for offsets in self.offsets])
        # Open for the life of the process: os.pread on a shared descriptor needs no lock.
        self._fds = _open_all(prepared.files)

    def _record(self, index: int) -> tuple[int, int, int, int]:
        shard, record = self.locate(index)
        offset = int(self.offsets[shard][record])
        return shard, record, offset, int(self.offsets[shard][record + 1]) - offset - 16

    def read(self, index: int) -> tuple[Raw, int]:
        shard, _, offset, length = self._record(index)
        data = os.pread(self._fds[shard], length, offset)
        return parse_example(data, self.prepared.image_key, self.prepared.label_key)

    def where(self, index: int) -> str:
        shard, record, offset, _ = self._record(index)
        return f"{self.prepared.files[shard]}, record {record}, byte {offset}"

    def verify(self, index: int) -> str | None:
        shard, _, offset, length = self._record(index)
        return check_record(self.prepared.files[shard], self._fds[shard], offset, length)


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

    def read(self, index: int) -> tuple[Raw, int]:
        shard, record = self.locate(index)
        data = self._reader(shard).read([record])[0]
        return parse_example(data, self.prepared.image_key, self.prepared.label_key)

    def where(self, index: int) -> str:
        shard, record = self.locate(index)
        return f"{self.prepared.files[shard]}, record {record}"

    def verify(self, index: int) -> str | None:
        try:
            self.read(index)
        except Exception as error:
            return str(error)
        return None


def tfds_source(
    name: str, data_dir: Path, split: str, *, others: Iterable[str] = ()
) -> TFRecordSource | ArrayRecordSource:
    """A data set prepared by tfds: ``name`` is ``dataset``, ``dataset/config`` or either with ``:version``.

    Raises:
      UserError: there is none; the message may suggest one of ``others``, too.
    """
    base, _, version = name.partition(":")
    root = data_dir / base
    versions = [p for p in root.glob(version or "*.*.*") if (p / "dataset_info.json").is_file()]
    if not versions:
        raise UserError(missing_data_message(base, data_dir, others))
    folder = max(versions, key=lambda p: [int(part) if part.isdigit() else 0 for part in p.name.split(".")])
    prepared = _Prepared(folder, split)
    return ArrayRecordSource(prepared) if prepared.file_format == "array_record" else TFRecordSource(prepared)


def missing_data_message(name: str, data_dir: Path, others: Iterable[str] = ()) -> str:
    """How to get a data set that is not there; ``others`` are names that may be meant instead."""
    if name == "imagenet2012":
        how = (
            "Download ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from image-net.org (free account), then run\n"
            f"  {INSTALL}\n"
            "  python tools/prepare_imagenet.py --train ILSVRC2012_img_train.tar "
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
        "or point --config.data.dir at the folder that holds it, or try --config FILE:digits, which needs no download."
    )


def npz_source(path: Path, split: str) -> ArraySource:
    """``<split>_images`` and ``<split>_labels`` of an ``.npz`` file; also Keras's x_train, y_train, x_test, y_test."""
    if not path.is_file():
        raise UserError(f"no file {path}: --config.data.dir must name an .npz file when data.name is 'npz'")
    keras = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test"), "val": ("x_test", "y_test")}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for images, labels in [(f"{split}_images", f"{split}_labels"), keras.get(split, ("", ""))]:
                if images in arrays and labels in arrays:
                    return ArraySource(arrays[images], arrays[labels].ravel(), name=f"{path}:{images}")
            found = ", ".join(arrays.files)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable .npz file: {error}") from error
    raise UserError(f"{path} needs {split}_images and {split}_labels; it holds: {found}")
