"""Fine-tuning on a folder of images: the settings that its size, the model and the device suggest."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import numpy as np

from jaxvision.config import Config
from jaxvision.data import sources
from jaxvision.data.folders import find_layout
from jaxvision.data.verify import problems
from jaxvision.errors import UserError, listed
from jaxvision.models.registry import ModelSpec
from jaxvision.recipes import rate_factor
from jaxvision.train import inputs

SHEET = "augment.png"  # in the workdir
LARGEST_BATCH, LARGEST_ON_CPU, SMALLEST = 128, 32, 8
EPOCHS, EPOCHS_ON_CPU, MOST_EPOCHS = 30, 10, 100
LEAST_STEPS = 200  # of a run, unless that takes more than MOST_EPOCHS
LEAST_PER_EPOCH = 10  # steps
MOST_CHECKED = 20_000  # images that are decoded before training


@dataclasses.dataclass(frozen=True)
class Images:
    """A user's images.

    Attributes:
      train, evaluation: the sources.
      few: a sentence on classes without evaluation images, or None.
    """

    train: sources.Source
    evaluation: sources.Source
    few: str | None


@dataclasses.dataclass(frozen=True)
class Device:
    """What a run computes on: the number of devices, and the memory in bytes for each (None: not known)."""

    count: int
    memory: int | None
    cpu: bool


def this_device() -> Device:
    """The devices of this process; starts JAX.

    Those of a CPU share a quarter of the memory: half is left to others, and float32 takes twice as much as bfloat16.
    """
    first, count = jax.devices()[0], jax.device_count()
    if first.platform != "cpu":
        return Device(count, (first.memory_stats() or {}).get("bytes_limit"), cpu=False)
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 // count
    except (AttributeError, ValueError, OSError):  # Windows
        memory = None
    return Device(count, memory, cpu=True)


def folder_fields(folder: Path) -> dict[str, str]:
    """Fields of the config that say how a folder is divided, by dotted name; see :func:`find_layout`.

    Raises:
      UserError: it is missing or has no images in class folders.
    """
    layout = find_layout(folder)
    return {"data.train_split": layout.train_split, "data.eval_split": layout.eval_split, "data.fold": layout.fold}


def check_workdir(workdir: Path, config: Config) -> None:
    """Checks that a workdir may become, or go on with, the run of a config.

    Raises:
      UserError: it has a run that started from other weights, or from which this one is to start.
    """
    saved = workdir / "config.json"
    if not saved.is_file() or not (workdir / "checkpoints").is_dir():
        return
    before = json.loads(saved.read_text())["model"]["weights"]
    if config.model.weights != before:
        raise UserError(
            f"{workdir} has a run from the weights {before or 'of its start'}, which the same command would resume; to "
            f"start from {config.model.weights}, choose another --workdir"
        )


def open_images(config: Config) -> Images:
    """Training and evaluation images of a config whose data are a folder.

    Raises:
      UserError: they have other classes to evaluate on than to train on, or a class without an image to train on.
    """
    train, place = inputs.open_train(config), config.data.dir
    evaluation = inputs.open_eval(config)
    sources.check_same_classes(train, evaluation)
    untrained, unseen = _classes_without(train), _classes_without(evaluation)
    if untrained and not config.data.class_map:
        raise UserError(
            f"{place}: too few images of {listed(untrained, 5)} to train on and evaluate: add some, or remove the class"
        )
    few = f"classes without images to evaluate on: {listed(unseen, 5)}" if unseen else None
    return Images(train, evaluation, few)


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


def check_images(images: Images, shown: Callable[[Iterable[str | None]], Iterable[str | None]] = iter) -> None:
    """Decodes the images, at most :data:`MOST_CHECKED` of them; a run would end at the first that is damaged.

    Args:
      images: to be checked.
      shown: passes the results on, one per image, and may show the progress.

    Raises:
      UserError: some cannot be used; the message has their number and the first of them.
    """
    bad, checked = [], 0
    for source in (images.train, images.evaluation):
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

    The memory of a step in bfloat16 is estimated as 50 MB and 15 MB per 1e9 multiply-adds for each image, and 16 bytes
    for each parameter, of four fifths of the device's. XLA's own figure for an image, on a CPU and in float32, is 1.1
    times this estimate for ResNet-50, 1.4 for ConvNeXt-T, 1.7 for EfficientNet-B0, 0.7 for ViT-B.
    """
    most = LARGEST_ON_CPU if device.cpu else LARGEST_BATCH
    if device.memory is not None:
        gmacs = spec.gmacs * (image_size / spec.gmacs_at) ** 2
        fitting = (0.8 * device.memory - 16e6 * spec.params_m) / (50e6 + 15e6 * gmacs)
        most = min(most, int(max(fitting, 1)) * device.count)
    most = min(most, max(SMALLEST, num_train // LEAST_PER_EPOCH))
    return max(1, 2 ** int(math.log2(max(most // device.count, 1)))) * device.count


def choose_epochs(batch: int, num_train: int, device: Device) -> int:
    """Length of the run: 30 epochs, on a CPU 10; more where these are fewer than 200 steps, up to 100."""
    usual = EPOCHS_ON_CPU if device.cpu else EPOCHS
    return max(usual, min(MOST_EPOCHS, math.ceil(LEAST_STEPS * batch / num_train)))


def choose_fields(
    spec: ModelSpec,
    images: Images,
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
      images: of the folder.
      device: that trains.
      image_size: pixels of a side.
      batch, epochs: those that the user chose; None: :func:`choose_batch`, :func:`choose_epochs`.
      recipe_batch, recipe_rate: batch and learning rate of the recipe; the rate is scaled to the batch of the run.
    """
    count = len(images.train)
    batch = batch or choose_batch(spec, image_size, count, device)
    epochs = epochs or choose_epochs(batch, count, device)
    rate = recipe_rate * rate_factor("adamw", batch / recipe_batch)
    return {
        "batch_size": batch,
        "epochs": float(epochs),
        "schedule.warmup_epochs": round(epochs / 10, 3),
        "optimizer.learning_rate": float(f"{rate:.2g}"),
        "log_every": max(1, min(50, count // batch // 2)),
    }
