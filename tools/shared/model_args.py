"""What the tools share: naming a model with its weights on the command line."""

from __future__ import annotations

import argparse
import functools
import hashlib
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from rich.progress import Progress

import jaxvision
from jaxvision.errors import UserError
from jaxvision.preprocessing import Preprocessing, preprocessing
from jaxvision.run.console import notes
from jaxvision.run.weights import run_weights
from jaxvision.weights.state_dict import State

_LARGE = 50 << 20  # from here on, reading a file shows a bar


def add_model_arguments(parser: argparse.ArgumentParser, *, positional: bool) -> None:
    """The model (as MODEL or --model), --weights and how to evaluate them."""
    text = 'timm\'s name; a weight tag selects its settings: "convnext_tiny.fb_in1k"'
    if positional:
        parser.add_argument("model", help=text)
    else:
        parser.add_argument("--model", required=True, help=text)
    parser.add_argument(
        "--weights", type=Path, required=True, help=".safetensors or .pth file, or the workdir of a training run"
    )
    parser.add_argument("--raw", action="store_true", help="of a training run: the raw weights, not their average")
    parser.add_argument("--test-size", action="store_true", help="at timm's larger test setting of these weights")
    parser.add_argument("--image-size", type=int, help="pixels, instead of the weights' own")
    parser.add_argument("--crop-pct", type=float, help="share of the short side kept, instead of the weights' own")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--fuse", action="store_true", help="fold batch normalisation into the convolutions")


def load(args: argparse.Namespace) -> tuple[jaxvision.Model, Preprocessing, str]:
    """The model, its preprocessing, and the weights' SHA-256 (or step, for a run)."""
    spec = jaxvision.model_spec(args.model)
    size, crop = args.image_size, args.crop_pct
    if args.weights.is_dir():
        state, config, step = weights_of_run(args.weights, spec.name, raw=args.raw)
        if not args.test_size:
            size, crop = size or config["model"]["image_size"], crop or config["eval"]["crop_pct"]
        source: Any = state
        identity = f"step {step}, {'raw' if args.raw else 'averaged'}"
        trained: int | None = config["model"]["image_size"]
    else:
        identity, source, trained = "sha256 " + checksum(args.weights), args.weights, None
    settings = preprocessing(spec, test_size=args.test_size, size=size, crop_pct=crop)
    with notes(functools.partial(print, file=sys.stderr)):
        model = jaxvision.create_model(
            args.model, weights=source, dtype=jnp.dtype(args.dtype), image_size=trained or spec.input_size
        )
    if model.image_size not in (None, (settings.size, settings.size)):
        model = model.with_image_size(settings.size)
    return jaxvision.fuse(model) if args.fuse else model, settings, identity


def weights_of_run(workdir: Path, name: str, *, raw: bool) -> tuple[State, dict[str, Any], int]:
    """:func:`run_weights` of a run that must be one of model ``name``; its average unless ``raw``."""
    state, config, step = run_weights(workdir, ema=not raw)
    if config["model"]["name"] != name:
        raise UserError(f"{workdir} is a run of {config['model']['name']}, not of {name}")
    return state, config, step


def checksum(path: Path) -> str:
    """SHA-256 of a file in hex; with a bar where that takes a while. Also brings the file into memory."""
    if not path.is_file():
        raise UserError(f"weights file not found: {path}")
    size, digest = path.stat().st_size, hashlib.sha256()
    with Progress(disable=size < _LARGE or not sys.stderr.isatty(), transient=True) as bar, path.open("rb") as file:
        task = bar.add_task(f"reading {path.name} ({size / 2**20:.0f} MiB)", total=size)
        while block := file.read(1 << 22):
            digest.update(block)
            bar.advance(task, len(block))
    return digest.hexdigest()
