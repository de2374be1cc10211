"""A picture of the images that a recipe trains on, made by the same code as a training run.

It shows examples of one batch in pairs: the original image, and below it the network's input after crop, augmentation,
Mixup and CutMix, with the labels that it is trained with.

  python tools/show_augment.py --config configs/deit_s.py:folder=/data/flowers --out sheet.png
  python tools/show_augment.py --config configs/convnext_t.py:digits --step 40 --images 24 --config.augment.mixup=0
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import numpy as np

from jaxvision import main as main_lib
from jaxvision.config import Config
from jaxvision.data import decode, sources
from jaxvision.data.tfrecord import DataError
from jaxvision.errors import UserError
from jaxvision.files import replace_file
from jaxvision.optim.losses import smoothed_one_hot
from jaxvision.train import build, inputs
from jaxvision.train.progressive import stages
from jaxvision.train.replicas import join_microbatches, split_microbatches
from jaxvision.train.step import MIXING, step_key
from tools.shared import command_line


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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--config", required=True, help="a config file, as for jaxvision.main")
    parser.add_argument("--out", type=Path, default=Path("augment.png"), help="the PNG file to write (augment.png)")
    parser.add_argument("--step", type=int, default=0, help="step of the run whose batch is shown (0)")
    parser.add_argument("--images", type=int, default=16, help="number of images to show (16)")
    args, rest = parser.parse_known_args(argv)
    try:
        config, _ = main_lib.parse(["--config", args.config, *rest])
        if args.images < 1:
            raise UserError("--images must be at least 1")
        # The whole batch is made, because Mixup and CutMix take partners from all of it.
        source = inputs.open_train(config)
        images, targets, ids = network_input(config, source, args.step)
        scratch, sheet = decode.Scratch(), []
        for seen, target, index in list(zip(images, targets, ids, strict=True))[: args.images]:
            raw, _ = source.read(index)
            original = raw if isinstance(raw, np.ndarray) else np.array(decode.decode(raw, scratch))
            sheet.append((original, seen, label_text(target, source.class_names, config.loss.label_smoothing)))
        title = f"{args.config}, step {args.step}: {len(sheet)} of {len(images)} images, {images.shape[1]} px"
        if config.loss.label_smoothing:
            title += f"; labels smoothed by {config.loss.label_smoothing:g}"
        figure = draw(sheet, title)
        replace_file(args.out, lambda path: figure.savefig(path, dpi=110, format="png"))
    except (UserError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}: {len(sheet)} of the {len(images)} images of step {args.step}")
    return 0


if __name__ == "__main__":
    command_line.start(main)
