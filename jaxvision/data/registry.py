"""Every kind of data set by the name that ``config.data.name`` selects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jaxvision.data import digits
from jaxvision.data.config import DataConfig
from jaxvision.data.sources import FolderSource, Source, SyntheticSource, npz_source, tfds_source


def _folder(config: DataConfig, split: str, image_size: int, seed: int) -> Source:
    return FolderSource(_path(config), _folder_name(split))


def _npz(config: DataConfig, split: str, image_size: int, seed: int) -> Source:
    return npz_source(_path(config), _folder_name(split))


def _synthetic(config: DataConfig, split: str, image_size: int, seed: int) -> Source:
    examples, classes = config.synthetic_examples, config.synthetic_classes
    return SyntheticSource(examples, classes, image_size, seed=len(split) + seed)


def _digits(config: DataConfig, split: str, image_size: int, seed: int) -> Source:
    return digits.source(split)


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
      UserError: it is missing (with the commands that get it), damaged, or has no such split.
    """
    if config.name in SOURCES:
        return SOURCES[config.name](config, split, image_size, seed)
    return tfds_source(config.name, _path(config), split, others=SOURCES)


def _path(config: DataConfig) -> Path:
    return Path(config.dir).expanduser()


def _folder_name(split: str) -> str:
    return {"validation": "val"}.get(split, split)
