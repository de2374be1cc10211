"""The model that a tool's arguments name, with its weights and the preprocessing that belongs to them."""

from __future__ import annotations

import argparse
import dataclasses
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

_LARGE = 50 << 20  # bytes from which on reading a file shows a bar


def load(args: argparse.Namespace) -> tuple[jaxvision.Model, Preprocessing, str]:
    """The model, its preprocessing, and what identifies its weights: a file's SHA-256, or a run's step.

    Raises:
      UserError: the weights are missing or damaged, or do not fit the model.
    """
    spec = jaxvision.model_spec(args.model)
    size, crop = args.image_size, args.crop_pct
    own = {}
    if args.weights.is_dir():
        state, config, step = weights_of_run(args.weights, spec.name, raw=args.raw)
        if not args.test_size:  # as the run evaluated itself
            spec, run = jaxvision.model_spec(config["model"]["name"]), config["eval"]
            size, crop = size or run["image_size"] or config["model"]["image_size"], crop or run["crop_pct"]
            own = {"crop_mode": run["crop_mode"], "interpolation": run["interpolation"]}
            own["dct_method"] = config["data"].get("dct_method", "accurate")  # a field that older runs do not have
        source: Any = state
        identity = f"step {step}, {'raw' if args.raw else 'EMA'}"
        trained: int | None = config["model"]["image_size"]
    else:
        identity, source, trained = "sha256 " + checksum(args.weights), args.weights, None
    settings = dataclasses.replace(preprocessing(spec, test_size=args.test_size, size=size, crop_pct=crop), **own)
    with notes(functools.partial(print, file=sys.stderr)):
        model = jaxvision.create_model(
            args.model, weights=source, dtype=jnp.dtype(args.dtype), image_size=trained or spec.input_size
        )
    if model.image_size not in (None, (settings.size, settings.size)):
        model = model.with_image_size(settings.size)
    return jaxvision.fuse(model) if args.fuse else model, settings, identity


def weights_of_run(workdir: Path, name: str, *, raw: bool) -> tuple[State, dict[str, Any], int]:
    """:func:`jaxvision.run.weights.run_weights` of a run of model ``name``: the EMA, or the ``raw`` weights.

    Raises:
      UserError: it is a run of another model, or has no usable checkpoint.
    """
    state, config, step = run_weights(workdir, ema=not raw)
    if config["model"]["name"].partition(".")[0] != name:
        raise UserError(f"{workdir} is a run of {config['model']['name']}, not of {name}")
    return state, config, step


def checksum(path: Path) -> str:
    """SHA-256 of a file in hex, with a bar where that takes a while. Also brings the file into memory.

    Raises:
      UserError: there is no such file.
    """
    if not path.is_file():
        raise UserError(f"weights file not found: {path}")
    size, digest = path.stat().st_size, hashlib.sha256()
    with Progress(disable=size < _LARGE or not sys.stderr.isatty(), transient=True) as bar, path.open("rb") as file:
        task = bar.add_task(f"reading {path.name} ({size / 2**20:.0f} MiB)", total=size)
        while block := file.read(1 << 22):
            digest.update(block)
            bar.advance(task, len(block))
    return digest.hexdigest()
