"""A picture of what the network gets: original images, and below each the input that a training step makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxvision.config import Config
from jaxvision.data import decode, sources
from jaxvision.errors import UserError
from jaxvision.files import replace_file
from jaxvision.optim.losses import smoothed_one_hot
from jaxvision.train import build, inputs
from jaxvision.train.progressive import stages
from jaxvision.train.replicas import join_microbatches, split_microbatches
from jaxvision.train.step import MIXING, step_key


def write_sheet(config: Config, source: sources.Source, out: Path, *, name: str, step: int = 0, most: int = 16) -> str:
    """Draws the first images of a step's batch to a PNG.

    Args:
      config: of the run.
      source: its training examples.
      out: the file.
      name: of the recipe, for the title.
      step: whose batch.
      most: images to draw.

    Returns:
      How many were drawn, in words.

    Raises:
      UserError: the run has no such step.
      DataError: an image cannot be read.
    """
    # The whole batch is made, because Mixup and CutMix take partners from all of it.
    images, targets, ids = network_input(config, source, step)
    scratch, sheet = decode.Scratch(), []
    for seen, target, index in list(zip(images, targets, ids, strict=True))[:most]:
        raw, _ = source.read(index)
        original = raw if isinstance(raw, np.ndarray) else np.array(decode.decode(raw, scratch))
        sheet.append((original, seen, label_text(target, source.class_names, config.loss.label_smoothing)))
    title = f"{name}, step {step}: {len(sheet)} of {len(images)} images, {images.shape[1]} px"
    if config.loss.label_smoothing:
        title += f"; labels smoothed by {config.loss.label_smoothing:g}"
    figure = draw(sheet, title)
    replace_file(out, lambda path: figure.savefig(path, dpi=110, format="png"))
    return f"{len(sheet)} of the {len(images)} images of step {step}"


def network_input(config: Config, source: sources.Source, step: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The batch of a step as the network gets it: images, targets and ids.

    Returns:
      Images in [0, 1], float (B, S, S, 3), with normalisation undone; targets (B, K); and the ids of the B examples.

    Raises:
      UserError: the run has no such step.
    """
    mesh = build.start_devices(config)
    total = build.lengths(config, len(source)).total
    if not 0 <= step < total:
        raise UserError(f"--step {step}: expected a step of the run, 0 to {total - 1}")
    config = next(part.config for part in stages(config, total) if part.start <= step < part.stop)
    network = build.build_network(config, source)
    loader = inputs.train_loader(config, source, lambda: False)
    batch = next(inputs.step_stream(loader, mesh, step, step + 1))
    images = build.augment_program(config, network, mesh)(batch["image"], np.int32(step))
    targets = smoothed_one_hot(batch["label"], network.num_classes, config.loss.label_smoothing)
    if mix := build.make_mix(config):
        images, targets = mixed(config, mix, step, images, targets)
    shown = np.asarray(images, np.float32) * np.array(network.spec.std) + np.array(network.spec.mean)
    return np.clip(shown, 0, 1), np.asarray(targets), list(map(int, loader.plan.ids(step)))


def mixed(config: Config, mix: Any, step: int, images: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Images and targets after Mixup and CutMix, which the train step applies to each microbatch."""
    parts, key = config.accumulate, step_key(config.seed, step)
    if parts == 1:
        return jax.jit(mix)(jax.random.fold_in(key, MIXING), images, targets)
    images, targets = (split_microbatches(config, x) for x in (images, targets))
    done = [
        jax.jit(mix)(jax.random.fold_in(jax.random.fold_in(key, i), MIXING), images[i], targets[i])
        for i in range(parts)
    ]
    return tuple(join_microbatches(config, np.stack([np.asarray(part[k]) for part in done])) for k in (0, 1))


def label_text(target: np.ndarray, names: Sequence[str], smoothing: float) -> str:
    """The targets of the image's class and its partner's; those that label smoothing alone gives are left out."""
    top = [k for k in np.argsort(-target)[:2] if target[k] > smoothing / len(target) + 0.005]
    return ", ".join(f"{names[k][:14]}: {target[k]:.2f}" for k in top)


def draw(sheet: Sequence[tuple[np.ndarray, np.ndarray, str]], title: str) -> Any:
    """The figure of (original, input, label): pairs of rows, named at their left, eight images to a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(8, len(sheet))
    rows = -(-len(sheet) // columns)
    # Wide enough for the title also where there are few images.
    figure = Figure(figsize=(max(2.1 * columns, 8) + 0.3, 4.4 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2 * rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    for row in range(rows):
        panels[2 * row, 0].set_ylabel("original")
        panels[2 * row + 1, 0].set_ylabel("network's input\n(targets above it)")
    for i, (original, seen, label) in enumerate(sheet):
        row, column = 2 * (i // columns), i % columns
        panels[row, column].imshow(original)
        panels[row + 1, column].imshow(seen, interpolation="nearest")
        panels[row + 1, column].set_title(label, fontsize=8)
    figure.suptitle(title)
    return figure
