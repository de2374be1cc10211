"""Names of classes, and the order in which a classifier expects them."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxvision.errors import UserError, did_you_mean, listed

MOST_CLASSES = 2**20  # more are a damaged label: a name and a row of the classifier are made for each
IMAGENET = "imagenet"  # instead of a file: ImageNet's 1000 WordNet ids


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """ImageNet's 1000 classes, each as (WordNet id, name), in the order of every published classifier."""
    text = importlib.resources.files("jaxvision.data").joinpath("imagenet_classes.txt").read_text()
    return tuple((line[:9], line[10:]) for line in text.splitlines())


def imagenet_ids() -> list[str]:
    """The WordNet ids of ImageNet's 1000 classes, in the order of every published classifier."""
    return [wnid for wnid, _ in imagenet_classes()]


def read_class_map(class_map: str) -> list[str]:
    """The class names that ``config.data.class_map`` stands for, in a classifier's order.

    Args:
      class_map: "imagenet", or a file with one class name per line.

    Raises:
      UserError: no such file, an empty line, or a name that occurs twice.
    """
    if class_map == IMAGENET:
        return imagenet_ids()
    file = Path(class_map).expanduser()
    if not file.is_file():
        raise UserError(
            f"config.data.class_map = {class_map!r}: no such file. "
            f'Expected "{IMAGENET}" or a file with one class name per line'
        )
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text: {error}") from error
    empty = [str(i + 1) for i, name in enumerate(names) if not name]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    problems = [f"empty lines: {', '.join(empty)}"] if empty else []
    problems += [f"names that occur twice: {', '.join(twice)}"] if twice else []
    problems += ["no names"] if not names else []
    if problems:
        raise UserError(f"{file}: expected one class name per line, found {'; '.join(problems)}")
    return names


def class_differences(where: str, names: Sequence[str], elsewhere: str, others: Sequence[str]) -> str:
    """Which of two lists' names only one of them has: "only in the run: a, b; only in the data: c"; at most 20 each."""
    only = {where: set(names) - set(others), elsewhere: set(others) - set(names)}
    found = [f"only {place}: {listed(sorted(rest), 20)}" for place, rest in only.items() if rest]
    return "; ".join(found) or "the same in another order"


def absent_classes(names: Sequence[str], classes: Sequence[str], where: str) -> str | None:
    """A sentence on the classes of a model that data lacks; None where it has all.

    Args:
      names: of the data's classes.
      classes: of the model.
      where: what ``classes`` come from.
    """
    present = set(names)
    absent = [name for name in classes if name not in present]
    if not absent:
        return None
    return f"{len(absent)} of {len(classes)} classes of {where} are not in the data: {listed(absent, 20)}"


def class_table(names: Sequence[str], classes: Sequence[str], where: str) -> np.ndarray:
    """The class of each label of a data set: int32 (len(names),), the positions of ``names`` in ``classes``.

    Args:
      names: of the data set's labels.
      classes: in the classifier's order; some may be absent from the data.
      where: what ``classes`` come from, for the message.

    Raises:
      UserError: names that are not in ``classes``, all of them, and the classes that no name matches.
    """
    position = {name: i for i, name in enumerate(classes)}
    if len(position) != len(classes):
        twice = sorted({name for name in classes if list(classes).count(name) > 1})
        raise UserError(f"classes of {where} that have the same name: {', '.join(twice)}")
    unknown = [name for name in names if name not in position]
    if not unknown:
        return np.array([position[name] for name in names], np.int32)
    absent = sorted(set(classes) - set(names), key=position.__getitem__)
    hints = [f"{name}:{near}" for name in unknown if (near := did_you_mean(name, absent))]
    missing = f". Without images: {', '.join(absent)}" if len(absent) <= max(20, 2 * len(unknown)) else ""
    raise UserError(
        f"{len(unknown)} of {len(names)} classes of the data are not in {where}: {', '.join(unknown)}{missing}"
        + (f". {'; '.join(hints[:5])}" if hints else "")
    )
