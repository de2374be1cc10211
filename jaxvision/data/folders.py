"""How a user's folder of images is divided into training and evaluation images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from jaxvision.data.image_files import IMAGE_SUFFIXES, is_visible
from jaxvision.errors import UserError, listed

TRAIN = ("train", "training")
EVALUATION = ("val", "validation", "valid", "dev", "test", "testing")  # the first of these that is there is used
FOLD = "1/5"  # of a folder that is not divided: a fifth of each class is evaluated on


@dataclasses.dataclass(frozen=True)
class Layout:
    """Values of ``config.data`` for a folder.

    Attributes:
      train_split, eval_split: subfolders that hold the class folders; "." is the folder itself.
      fold: empty, or the part of ``train_split`` that is evaluated on instead of ``eval_split``.
    """

    train_split: str
    eval_split: str
    fold: str = ""


def find_layout(folder: Path) -> Layout:
    """The layout of ``folder/train/CLASS/*.jpg`` with ``folder/val``, of the first alone, or of ``folder/CLASS/*.jpg``.

    Raises:
      UserError: there is no such folder, it has no images in class folders, or images to train on of one class only.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: expected {folder}/CLASS/*.jpg, one folder for each class of images")
    inside = {path.name: path for path in sorted(_inside(folder)) if path.is_dir()}
    train = next((name for name in TRAIN if name in inside and _holds_classes(inside[name])), None)
    if train is not None:
        _check_classes(inside[train])
        evaluation = next((name for name in EVALUATION if name in inside and _holds_classes(inside[name])), None)
        return Layout(train, train, FOLD) if evaluation is None else Layout(train, evaluation)
    if not _holds_classes(folder):
        raise UserError(_advice(folder, inside))
    _check_classes(folder)
    return Layout(".", ".", FOLD)


def _check_classes(folder: Path) -> None:
    classes = [path.name for path in _inside(folder) if path.is_dir() and _holds_images(path)]
    if len(classes) == 1:
        raise UserError(
            f"{folder} has images of one class only, {classes[0]!r}: a classifier needs at least two. Expected "
            f"{folder}/CLASS/*.jpg, one folder for each class"
        )


def _advice(folder: Path, inside: dict[str, Path]) -> str:
    expected = f"expected {folder}/CLASS/*.jpg, one folder for each class of images, or {folder}/train and {folder}/val"
    deeper = [path for path in inside.values() if _holds_classes(path)]
    if len(deeper) == 1 and deeper[0].name not in EVALUATION:
        return f"no images in class folders of {folder}: did you mean {deeper[0]}?"
    if deeper:
        found = listed([path.name for path in deeper], 5)
        return f"no images in class folders of {folder}, but in {found}, and nothing to train on: {expected}"
    if _holds_images(folder):
        return f"the images of {folder} are in no class folders: {expected}"
    return f"no images ({', '.join(IMAGE_SUFFIXES)}) in class folders of {folder}: {expected}"


def _holds_classes(folder: Path) -> bool:
    """Whether a folder of the folder has an image."""
    return any(path.is_dir() and _holds_images(path) for path in _inside(folder))


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() for path in _inside(folder))


def _inside(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if is_visible(path.name))
