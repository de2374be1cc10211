"""Fine-tuning on a folder of images: the settings that its size, the model and the device suggest."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import numpy as np

from jaxvision.data import sources
from jaxvision.data.config import DataConfig, parse_fold
from jaxvision.data.folders import Layout, find_layout
from jaxvision.data.verify import problems
from jaxvision.errors import UserError, listed
from jaxvision.models.registry import ModelSpec
from jaxvision.recipes import rate_factor

SHEET = "augment.png"  # in the workdir
LARGEST_BATCH, LARGEST_ON_CPU, SMALLEST = 128, 32, 8
EPOCHS, EPOCHS_ON_CPU, MOST_EPOCHS = 30, 10, 100
LEAST_STEPS = 200  # of a run, unless that takes more than MOST_EPOCHS
LEAST_PER_EPOCH = 10  # steps
MOST_CHECKED = 20_000  # images that are decoded before training


@dataclasses.dataclass(frozen=True)
class Folder:
    """A user's images.

    Attributes:
      layout: where training and evaluation images are.
      train, evaluation: the sources.
      few: a sentence on classes without evaluation images, or None.
    """

    layout: Layout
    train: sources.Source
    evaluation: sources.Source
    few: str | None


@dataclasses.dataclass(frozen=True)
class Device:
    """What a run computes on: the number of devices, and the memory of each in bytes (None: a CPU's, or not known)."""

    count: int
    memory: int | None
    cpu: bool


def this_device() -> Device:
    """The devices of this process; starts JAX."""
    first = jax.devices()[0]
    memory = (first.memory_stats() or {}).get("bytes_limit") if first.platform != "cpu" else None
    return Device(jax.device_count(), memory, first.platform == "cpu")


def open_folder(path: Path, class_map: str = "") -> Folder:
    """Training and evaluation images of a folder.

    Args:
      path: of the folder; see :func:`jaxvision.data.folders.find_layout`.
      class_map: as in ``config.data``.

    Raises:
      UserError: it is missing or has no images, only one class, other classes to evaluate on than to train on, or a
        class without an image to train on.
    """
    layout = find_layout(path)

    def read(split: str) -> sources.Source:
        config = DataConfig(name="folder", dir=str(path), class_map=class_map)
        return sources.open_source(config, split, image_size=224, seed=0)

    train = read(layout.train_split)
    if len(found := set(_labels(train))) < 2:
        only = train.class_names[found.pop()]
        raise UserError(
            f"{path} has images of one class only, {only!r}: a classifier needs at least two. Expected "
            f"{path}/CLASS/*.jpg, one folder for each class"
        )
    if fold := parse_fold(layout.fold):
        whole = train
        train, evaluation = sources.without_fold(whole, *fold), sources.only_fold(whole, *fold)
    else:
        evaluation = read(layout.eval_split)
        sources.check_same_classes(train, evaluation)
    untrained, unseen = _classes_without(train), _classes_without(evaluation)
    if untrained and not class_map:
        raise UserError(
            f"{path}: too few images of {listed(untrained, 5)} to train on and evaluate: add some, or remove the class"
        )
    few = f"classes without images to evaluate on: {listed(unseen, 5)}" if unseen else None
    return Folder(layout, train, evaluation, few)


def _labels(source: sources.Source) -> np.ndarray:
    """The labels of folders, without reading an image."""
    if isinstance(source, sources.Subset):
        return _labels(source.source)[source.ids]
    if isinstance(source, sources.Relabelled):
        return source.table[_labels(source.source)]
    assert isinstance(source, sources.FolderSource)
    return source.labels


def _classes_without(source: sources.Source) -> list[str]:
    present = set(_labels(source))
    return [name for label, name in enumerate(source.class_names) if label not in present]


def check_images(folder: Folder, shown: Callable[[Iterable[str | None]], Iterable[str | None]] = iter) -> None:
    """Decodes the images, at most :data:`MOST_CHECKED` of them; a run would end at the first that is damaged.

    Args:
      folder: whose images are checked.
      shown: passes the results on, one per image, and may show the progress.

    Raises:
      UserError: some cannot be used; the message has their number and the first of them.
    """
    bad, checked = [], 0
    for source in (folder.train, folder.evaluation):
        indices = range(min(len(source), MOST_CHECKED - checked))
        checked += len(indices)
        bad += [found for found in shown(problems(source, indices)) if found]
    if bad:
        first = "\n  ".join(bad[:5])
        more = f"\n  and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise UserError(
            f"{len(bad)} of {checked} images cannot be read:\n  {first}{more}\n"
            "Repair or delete them; with --config.data.on_corrupt=skip others take their places"
        )


def choose_batch(spec: ModelSpec, image_size: int, num_train: int, device: Device) -> int:
    """Images per step: as many as the device holds, up to 128 (on a CPU 32), and at most a tenth of the data.

    The memory of a step is estimated as 50 MB and 15 MB per 1e9 multiply-adds for each image, and 16 bytes for each
    parameter, of four fifths of the device's: rather too much, so that the run fits.
    """
    most = LARGEST_ON_CPU if device.cpu else LARGEST_BATCH
    if device.memory is not None:
        gmacs = spec.gmacs * (image_size / spec.gmacs_at) ** 2
        images = (0.8 * device.memory - 16e6 * spec.params_m) / (50e6 + 15e6 * gmacs)
        most = min(most, int(max(images, 1)) * device.count)
    most = min(most, max(SMALLEST, num_train // LEAST_PER_EPOCH))
    return max(1, 2 ** int(math.log2(max(most // device.count, 1)))) * device.count


def choose_epochs(batch: int, num_train: int, device: Device) -> int:
    """Length of the run: 30 epochs, on a CPU 10; more where these are fewer than 200 steps, up to 100."""
    usual = EPOCHS_ON_CPU if device.cpu else EPOCHS
    return max(usual, min(MOST_EPOCHS, math.ceil(LEAST_STEPS * batch / num_train)))


def choose_fields(
    spec: ModelSpec,
    folder: Folder,
    device: Device,
    *,
    image_size: int,
    batch: int | None,
    epochs: float | None,
    recipe_batch: int,
    recipe_rate: float,
) -> dict[str, object]:
    """Fields of the config, by dotted name.

    Args:
      spec: of the model.
      folder: the images.
      device: that trains.
      image_size: pixels of a side.
      batch, epochs: those that the user chose; None: :func:`choose_batch`, :func:`choose_epochs`.
      recipe_batch, recipe_rate: batch and learning rate of the recipe; the rate is scaled to the batch of the run.
    """
    count = len(folder.train)
    batch = batch or choose_batch(spec, image_size, count, device)
    epochs = epochs or choose_epochs(batch, count, device)
    rate = recipe_rate * rate_factor("adamw", batch / recipe_batch)
    return {
        "data.train_split": folder.layout.train_split,
        "data.eval_split": folder.layout.eval_split,
        "data.fold": folder.layout.fold,
        "model.image_size": image_size,
        "batch_size": batch,
        "epochs": float(epochs),
        "schedule.warmup_epochs": round(epochs / 10, 3),
        "optimizer.learning_rate": float(f"{rate:.2g}"),
        "log_every": max(1, min(50, count // batch // 2)),
    }
