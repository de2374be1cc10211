"""Sources: random access by index to encoded images (or uint8 arrays) and labels.

A kind of data set is a class here and a line in :data:`SOURCES`, under the name that ``config.data.name`` selects.
"""

from __future__ import annotations

import collections
import os
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from jaxvision.data import digits
from jaxvision.data.classes import MOST_CLASSES, class_differences, class_table, read_class_map
from jaxvision.data.config import DataConfig
from jaxvision.data.decode import check_size
from jaxvision.data.image_files import IMAGE_SUFFIXES, is_visible, read_image_file
from jaxvision.data.tfds import tfds_source
from jaxvision.data.tfrecord import DataError
from jaxvision.errors import UserError, listed

Raw = bytes | memoryview | np.ndarray


class Source(Protocol):
    """What the loader reads from. ``num_classes`` and ``class_names`` describe the labels."""

    num_classes: int
    class_names: Sequence[str]

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[Raw, int]:
        """Encoded image (bytes-like) or a uint8 (H, W, 3) array, and the label; raises where its checksums differ."""

    def where(self, index: int) -> str:
        """Where example ``index`` is stored, for messages."""


def check_label(label: int, num_classes: int) -> None:
    """Refuses a label that is no class of the data.

    Raises:
      DataError: it is not one of 0 to ``num_classes - 1``.
    """
    if not 0 <= label < num_classes:
        raise DataError(f"its label is {label}, the data has {num_classes} classes: 0 to {num_classes - 1}")


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


def only_fold(source: Source, k: int, n: int) -> Subset:
    """The k-th (from 1) of n equal random parts of a source; the parts are the same in every run.

    Of folders and arrays, whose labels are known, each part has its share of each class.
    """
    return Subset(source, np.sort(_shuffled(source, n)[k - 1 :: n]))


def without_fold(source: Source, k: int, n: int) -> Subset:
    """The other n - 1 parts: all examples that :func:`only_fold` does not have."""
    return Subset(source, np.sort(np.delete(_shuffled(source, n), np.s_[k - 1 :: n])))


def _shuffled(source: Source, n: int) -> np.ndarray:
    if len(source) < 2 * n:
        raise UserError(f"{len(source)} examples are too few for {n} parts (data.fold): at least {2 * n} are needed")
    order = np.random.default_rng(0).permutation(len(source))
    while isinstance(source, Relabelled):  # the same parts, whatever the order of the classes
        source = source.source
    labels = source.labels if isinstance(source, FolderSource | ArraySource) else None
    return order if labels is None else order[np.argsort(labels[order], kind="stable")]


class Relabelled:
    """Another source whose labels are indices into ``classes``, a classifier's order; the data may lack some classes.

    Raises:
      UserError: the data has other classes; the message names them all.
    """

    def __init__(self, source: Source, classes: Sequence[str], *, where: str) -> None:
        self.source, self.class_names, self.num_classes = source, list(classes), len(classes)
        self.table = class_table(source.class_names, classes, where)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> tuple[Raw, int]:
        raw, label = self.source.read(index)
        check_label(label, len(self.table))
        return raw, int(self.table[label])

    def where(self, index: int) -> str:
        return self.source.where(index)


class ArraySource:
    """Images in memory: uint8 (N, H, W) or (N, H, W, 1 or 3), labels (N,)."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, *, class_names: Sequence[str] = (), name: str = "array"
    ) -> None:
        problems = []
        if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))):
            problems.append(f"images must be uint8 (N, H, W) or (N, H, W, 1|3), got {images.dtype} {images.shape}")
        else:
            try:
                check_size(images.shape[2], images.shape[1])
            except ValueError as error:
                problems.append(f"images of {error}")
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            problems.append(f"labels must be {images.shape[:1]} integers, got {labels.dtype} {labels.shape}")
        elif not len(labels):
            problems.append("no images")
        elif labels.min() < 0 or labels.max() >= MOST_CLASSES:
            problems.append(f"labels must be from 0 to {MOST_CLASSES - 1}, got {labels.min()} to {labels.max()}")
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


class FolderSource:
    """``DIR/SPLIT/CLASS/*.jpg``: one folder a class, classes in sorted order.

    Folders without images, hidden ones and ``__MACOSX`` are no classes. A ``UserWarning`` names folders without images,
    another has the number of files that are not read because their names are not those of images.

    Raises:
      UserError: there is no such folder, or no image in it.
    """

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
        self.class_names: list[str] = []
        self.paths: list[str] = []
        labels: list[int] = []
        empty, others = [], collections.Counter()
        for name in sorted(entry.name for entry in _visible(folder) if entry.is_dir()):
            entries = _visible(folder / name)
            files = sorted(entry.path for entry in entries if entry.name.lower().endswith(IMAGE_SUFFIXES))
            if len(files) < len(entries):
                others.update(
                    _suffix(e.name) for e in entries if e.is_file() and not e.name.lower().endswith(IMAGE_SUFFIXES)
                )
            if not files:
                empty.append(name)
                continue
            labels += [len(self.class_names)] * len(files)
            self.class_names.append(name)
            self.paths += files
        self.num_classes = len(self.class_names)
        if others:
            found = [f"{count} {suffix}" for suffix, count in others.most_common(5)]
            found += [f"{rest} others"] if (rest := others.total() - sum(n for _, n in others.most_common(5))) else []
            kinds = f"an image is named {', '.join(IMAGE_SUFFIXES)}"
            warnings.warn(f"files of {folder} that are not read: {', '.join(found)}; {kinds}", stacklevel=2)
        if not self.paths:
            raise UserError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}) in class folders")
        if empty:
            warnings.warn(f"folders of {folder} without images are no classes: {', '.join(empty)}", stacklevel=2)
        self.labels = np.array(labels)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> tuple[Raw, int]:
        return read_image_file(self.paths[index]), int(self.labels[index])

    def where(self, index: int) -> str:
        return self.paths[index]


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    return [entry for entry in os.scandir(folder) if is_visible(entry.name)]


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "without a suffix"  # noqa: PTH122


def npz_source(path: Path, split: str) -> ArraySource:
    """``<split>_images`` and ``<split>_labels`` of an ``.npz`` file; also Keras's x_train, y_train, x_test, y_test."""
    if not path.is_file():
        raise UserError(f"no file {path}: --config.data.dir must name an .npz file when data.name is 'npz'")
    keras = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test"), "val": ("x_test", "y_test")}
    pairs = [(f"{split}_images", f"{split}_labels"), keras.get(split, ("", ""))]
    try:
        with zipfile.ZipFile(path) as archive:
            there = [name.removesuffix(".npy") for name in archive.namelist()]
            chosen = next((pair for pair in pairs if set(pair) <= set(there)), ())
            arrays = [_member(archive, name) for name in chosen]
    except Exception as error:  # of damaged bytes zipfile, zlib and numpy raise a dozen kinds
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} is not a readable .npz file, as numpy.savez writes it: {reason}") from error
    if not chosen:
        raise UserError(f"{path} needs {split}_images and {split}_labels; it holds: {listed(there, 20)}")
    source = ArraySource(arrays[0], arrays[1].ravel(), name=f"{path}:{chosen[0]}")
    if absent := source.num_classes - len(np.unique(source.labels)):
        counted = f"{absent} of the {source.num_classes} classes, counted up to the largest label"
        warnings.warn(f"{path}: {counted} of {chosen[1]}, have no image", stacklevel=2)
    return source


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        # zipfile compares the checksum where the bytes end, so not where a damaged header asks for fewer.
        if file.read(1):
            raise ValueError(f"{name} has more bytes than its header says")
    return array


def _folder(config: DataConfig, split: str, image_size: int, seed: int) -> Source:
    root = _path(config)
    return FolderSource(root, split if (root / split).is_dir() else _folder_name(split))


def _npz(config: DataConfig, split: str, image_size: int, seed: int) -> Source:
    return npz_source(_path(config), _folder_name(split))


def _synthetic(config: DataConfig, split: str, image_size: int, seed: int) -> Source:
    examples, classes = config.synthetic_examples, config.synthetic_classes
    return SyntheticSource(examples, classes, image_size, seed=len(split) + seed)


def _digits(config: DataConfig, split: str, image_size: int, seed: int) -> Source:
    return digits.source(split, verify=config.verify_records)


# Any other name is that of a data set prepared by tfds.
SOURCES: dict[str, Callable[[DataConfig, str, int, int], Source]] = {
    "digits": _digits,
    "folder": _folder,
    "npz": _npz,
    "synthetic": _synthetic,
}


def open_source(config: DataConfig, split: str, *, image_size: int, seed: int) -> Source:
    """A split of the data set that a config names.

    Args:
      config: names the data set and says where it is stored.
      split: "train", "validation", "test", or a tfds slice such as "train[:99%]".
      image_size: pixels of a side of synthetic images.
      seed: of synthetic images.

    Raises:
      UserError: it is missing (with the commands that get it), damaged, or has no such split; or its classes are not
        those of ``config.class_map``.
    """
    if config.name in SOURCES:
        source = SOURCES[config.name](config, split, image_size, seed)
    else:
        source = tfds_source(config.name, _path(config), split, verify=config.verify_records, others=SOURCES)
    if config.class_map:
        classes = read_class_map(config.class_map)
        return Relabelled(source, classes, where=f"config.data.class_map = {config.class_map!r}")
    return source


def check_same_classes(train: Source, evaluation: Source) -> None:
    """Checks that a label means the same class in the training and the evaluation data.

    Raises:
      UserError: their classes differ; the message names each that only one of them has.
    """
    ours, theirs = list(train.class_names), list(evaluation.class_names)
    # Numbers are not names: of an array, classes are counted up to the largest label that occurs.
    numbered = ours == [str(i) for i in range(len(ours))]
    if theirs == (ours[: len(theirs)] if numbered else ours):
        return
    found = class_differences("in the training data", ours, "in the evaluation data", theirs)
    raise UserError(
        f"training and evaluation data have different classes, so their labels do not agree: {found}. "
        "Name them all, one a line, in a file: --config.data.class_map=FILE"
    )


def _path(config: DataConfig) -> Path:
    return Path(config.dir).expanduser()


def _folder_name(split: str) -> str:
    return {"validation": "val"}.get(split, split)
