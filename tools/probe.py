"""Measures how good a network's embeddings are on a data set, without training it: k nearest neighbours, linear probe.

  python tools/probe.py convnext_tiny.fb_in1k --data flowers    # flowers/train and flowers/val, or flowers/CLASS alone
  python tools/probe.py --weights runs/flowers                 # a run, on its own data
  python tools/probe.py resnet50 --weights w.pth --data-name digits --split test --out probe.json

The neighbours vote by cosine similarity, as DINO's evaluation (Caron et al. 2021). The linear probe is a logistic
regression; a fifth of the training images chooses its L2 penalty. Images are cropped as in an evaluation.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import platform
import sys
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.shared import command_line

if TYPE_CHECKING:
    from jaxvision.data.sources import Source
    from jaxvision.run.weights import SavedRun


def open_sources(args: argparse.Namespace, run: SavedRun | None) -> tuple[Source, Source]:
    """Training images and images to evaluate on: of the arguments, or of the run.

    Raises:
      UserError: they are missing, or have different classes.
    """
    from jaxvision.config import Config, from_saved, resolve
    from jaxvision.data import sources
    from jaxvision.data.config import DataConfig
    from jaxvision.data.folders import find_layout
    from jaxvision.run.console import notes
    from jaxvision.train import finetune, inputs

    with notes(functools.partial(command_line.say, error_stream=True)):
        if args.data is None and args.data_name is None:
            if run is None:
                command_line.fail("name the images: --data FOLDER, or --data-name NAME")
            config = resolve(from_saved(run.config))
            args.data = config.data.dir
            return inputs.open_train(config), inputs.open_eval(config)
        if args.data_name in (None, "folder") and args.train_split is args.split is None:
            folder = Path(args.data or "").expanduser()
            layout = dataclasses.asdict(find_layout(folder))
            images = finetune.open_images(Config(data=DataConfig(name="folder", dir=str(folder), **layout)))
            return images.train, images.evaluation
        data = DataConfig(name=args.data_name or "folder", **({} if args.data is None else {"dir": args.data}))
        train, evaluation = (
            sources.open_source(data, split, image_size=224, seed=0)
            for split in (args.train_split or "train", args.split or "validation")
        )
        sources.check_same_classes(train, evaluation)
        return train, evaluation


def run(args: argparse.Namespace) -> int:
    """Embeds the images, measures and reports."""
    import jax
    import jax.numpy as jnp
    from rich.progress import Progress

    from jaxvision.files import replace_text
    from jaxvision.train import probe
    from tools.shared.load_model import check_names, load, of_run

    # The data first: weights may have to be downloaded.
    check_names(args)
    found = None if of_run(args) else open_sources(args, None)
    loaded = load(args)
    model, settings = loaded.model, loaded.settings
    train_source, evaluation_source = found or open_sources(args, loaded.run)
    classes, start = train_source.num_classes, time.perf_counter()
    name = f"{model.spec.name}.{model.spec.tag}" if loaded.run is None and model.spec.published else model.spec.name
    command_line.say(f"{name} ({loaded.identity}{', fused' if args.fuse else ''}, {args.dtype}): {settings}")
    command_line.say(
        f"{len(train_source)} training images, {len(evaluation_source)} to evaluate on; {classes} classes, "
        f"{model.num_features} features"
    )
    features = []
    for what, source in (("training", train_source), ("evaluation", evaluation_source)):
        with Progress(disable=not sys.stderr.isatty(), transient=True) as bar:
            task = bar.add_task(f"embedding {what} images", total=len(source))
            features.append(
                probe.embed(
                    model,
                    settings,
                    source,
                    batch_size=args.batch_size,
                    threads=args.threads,
                    dtype=jnp.dtype(args.dtype),
                    said=lambda count, bar=bar, task=task: bar.update(task, completed=count),
                )
            )
    train, evaluation = features
    embedded = time.perf_counter()
    neighbours = min(args.neighbours, len(train_source))
    nearest = probe.neighbour_probe(
        train, evaluation, num_classes=classes, neighbours=neighbours, temperature=args.temperature
    )
    command_line.say(
        f"{neighbours} nearest neighbours (cosine, temperature {args.temperature:g}): top-1 {nearest:.3f} %"
    )
    linear = probe.linear_probe(train, evaluation, num_classes=classes)
    command_line.say(
        f"linear probe (L2 {linear.l2:g}, top-1 {linear.held_out[linear.l2]:.3f} % on a fifth of the training images): "
        f"top-1 {linear.top1:.3f} %"
    )
    seconds = time.perf_counter() - start
    command_line.say(f"in {seconds:.1f} s, {embedded - start:.1f} s of them for the embeddings")
    if args.out:
        document = {
            "model": name, "weights": str(args.weights or name), "identity": loaded.identity, "fused": args.fuse,
            "dtype": args.dtype, "data": args.data_name or "folder", "dir": args.data, "classes": classes,
            "training_images": len(train_source), "images": len(evaluation_source), "features": model.num_features,
            "preprocessing": vars(settings),
            "knn": {"neighbours": neighbours, "temperature": args.temperature, "top1": nearest},
            "linear": {"l2": linear.l2, "held_out_top1": linear.held_out, "top1": linear.top1},
            "seconds": round(seconds, 2), "date": str(date.today()), "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(), "python": platform.python_version(), "jax": jax.__version__,
        }  # fmt: skip
        replace_text(args.out, json.dumps(document, indent=2) + "\n")
        command_line.say(f"wrote {args.out}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    command_line.add_model_name(parser)
    command_line.add_weights_arguments(parser)
    parser.add_argument("--data", "--data-dir", metavar="DIR", help="folder of the images, or where NAME is prepared")
    parser.add_argument("--data-name", metavar="NAME", help="a data set prepared by tfds, or digits, npz (folder)")
    parser.add_argument("--train-split", metavar="SPLIT", help="as in a config (train, or as the folder is divided)")
    parser.add_argument("--split", help="to evaluate on, as in a config (validation, or as the folder is divided)")
    parser.add_argument("-k", "--neighbours", metavar="N", type=int, default=20, help="that vote (%(default)s)")
    parser.add_argument("--temperature", type=float, default=0.07, help="of their votes (%(default)s)")
    command_line.add_batch_size(parser, 64)
    parser.add_argument("--threads", type=int, help="decoding threads; default: one per core")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    args = command_line.parse(parser, argv, model_required=False)
    if args.batch_size < 1 or args.neighbours < 1 or not args.temperature > 0:
        parser.error("--batch-size and --neighbours must be at least 1, --temperature above 0")
    return command_line.run(run, args)


if __name__ == "__main__":
    command_line.start(main)
