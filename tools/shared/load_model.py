"""The model that a tool's arguments name, with its weights and the preprocessing that belongs to them."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import sys
from pathlib import Path

import jax.numpy as jnp
from rich.progress import Progress

import jaxvision
from jaxvision.data.classes import imagenet_classes
from jaxvision.errors import UserError
from jaxvision.preprocessing import Preprocessing, preprocessing
from jaxvision.run.console import notes
from jaxvision.run.weights import CLASSES, SavedRun, read_run
from jaxvision.weights import hints, published
from jaxvision.weights.hub import HubAccess
from tools.shared import command_line

_LARGE = 50 << 20  # bytes from which on reading a file shows a bar


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model that is ready to be evaluated.

    Attributes:
      model: with its weights.
      settings: its preprocessing.
      identity: of the weights, for people: a file's SHA-256, or a run's step.
      class_names: that came with the weights, in the classifier's order.
      class_descriptions: the same for people, where the names are ids.
      run: whose weights they are.
    """

    model: jaxvision.Model
    settings: Preprocessing
    identity: str
    class_names: tuple[str, ...] | None = None
    class_descriptions: tuple[str, ...] | None = None
    run: SavedRun | None = None


def load(args: argparse.Namespace) -> Loaded:
    """The model of ``args.weights``: a run, a file, or weights by name; without them, ``args.model``'s published ones.

    Raises:
      UserError: the weights are missing or damaged, do not fit the model, or do not say which one it is.
    """
    check_names(args)
    if of_run(args):
        return _load_run(args, Path(args.weights).expanduser())
    return _load_weights(args)


def of_run(args: argparse.Namespace) -> bool:
    """Whether ``args.weights`` are those of a run."""
    return args.weights is not None and Path(args.weights).expanduser().is_dir()


def check_names(args: argparse.Namespace) -> None:
    """Checks the names of model and weights, without reading or downloading anything; a run may stand for its model.

    A run in the place of the model becomes ``args.weights``.

    Raises:
      UserError: there is no such model or file.
    """
    if args.weights is None and command_line.is_run(args.model):
        args.model, args.weights = None, args.model
    if args.model is not None and not published.is_source(args.model):
        jaxvision.model_spec(args.model)
    if args.weights is not None and not published.is_name(str(args.weights)):
        file = Path(args.weights).expanduser()
        if not file.exists():
            raise UserError(f"weights file not found: {file}.{hints.of_missing(Path(args.weights))}")


def _load_run(args: argparse.Namespace, workdir: Path) -> Loaded:
    run = run_of(workdir, args.model, raw=args.raw)
    spec, own = jaxvision.model_spec(run.config["model"]["name"]), {}
    size, crop = args.image_size, args.crop_pct
    if not args.test_size:  # as the run evaluated itself
        evaluated = run.config["eval"]
        size = size or evaluated["image_size"] or run.config["model"]["image_size"]
        crop = crop or evaluated["crop_pct"]
        own = {"crop_mode": evaluated["crop_mode"], "interpolation": evaluated["interpolation"]}
        own["dct_method"] = run.config["data"].get("dct_method", "accurate")  # a field that older runs do not have
    settings = dataclasses.replace(preprocessing(spec, test_size=args.test_size, size=size, crop_pct=crop), **own)
    with notes(functools.partial(command_line.say, error_stream=True)):
        model = jaxvision.create_model(
            run.config["model"]["name"],
            weights=run.state,
            dtype=jnp.dtype(args.dtype),
            image_size=run.config["model"]["image_size"],
        )
    identity = f"step {run.step}, {'raw' if args.raw else 'EMA'}"
    if run.class_names is not None and len(run.class_names) > model.num_classes:
        raise UserError(f"{workdir}/{CLASSES} names {len(run.class_names)} classes, the model has {model.num_classes}")
    return Loaded(_at_size(model, settings, args), settings, identity, run.class_names, run=run)


def _load_weights(args: argparse.Namespace) -> Loaded:
    if args.model is not None and published.is_source(args.model) and args.weights is None:
        args.weights, args.model = args.model, None
    name = args.model if args.weights is None else str(args.weights)
    file, spec, in_chans, found = Path(name).expanduser(), None, 3, None
    if args.weights is None or published.is_name(name):
        found = published.find(name, HubAccess())
        file, spec, in_chans = found.file, found.spec, found.in_chans
    if args.model is not None:
        named = jaxvision.model_spec(args.model)
        if spec is not None:
            published.check_architecture(spec, named.name, name)
        spec = spec or named
    if spec is None:
        raise UserError(f"{file} does not say which model it is of: name it, --model NAME")
    identity = "sha256 " + checksum(file)
    settings = preprocessing(spec, test_size=args.test_size, size=args.image_size, crop_pct=args.crop_pct)
    with notes(functools.partial(command_line.say, error_stream=True)):
        model = jaxvision.create_model(
            spec.name, weights=file, dtype=jnp.dtype(args.dtype), image_size=spec.input_size, in_chans=in_chans
        )
    if found is not None:
        published.check_classes(found, model.num_classes)
    if model.num_classes == spec.num_classes:
        model = model.replace(spec=spec)
    model = _at_size(model, settings, args)
    return Loaded(model, settings, identity, model.spec.class_names, model.spec.class_descriptions)


def _at_size(model: jaxvision.Model, settings: Preprocessing, args: argparse.Namespace) -> jaxvision.Model:
    """The model for images of the preprocessing's size, and fused where that was asked for."""
    if model.image_size not in (None, (settings.size, settings.size)):
        model = model.with_image_size(settings.size)
    return jaxvision.fuse(model) if args.fuse else model


def run_of(workdir: Path, name: str | None, *, raw: bool) -> SavedRun:
    """:func:`jaxvision.run.weights.read_run` of a run of model ``name``: the EMA, or the ``raw`` weights.

    Raises:
      UserError: it is a run of another model, or has no usable checkpoint.
    """
    run = read_run(workdir, ema=not raw)
    found = run.config["model"]["name"]
    if name is not None and found.partition(".")[0] != jaxvision.model_spec(name).name:
        raise UserError(f"{workdir} is a run of {found}, not of {name}")
    return run


def readable_names(class_names: tuple[str, ...] | None, num_classes: int) -> list[str]:
    """A name per class for people: ImageNet's words for WordNet ids, "class 7" where there is no name."""
    words = dict(imagenet_classes())
    if class_names is None:
        class_names = tuple(words) if num_classes == len(words) else ()
    names = [words.get(name, name) for name in class_names]
    return names + [f"class {i}" for i in range(len(names), num_classes)]


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
