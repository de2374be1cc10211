"""Model names: which module builds each, and the constants published with its weights."""

from __future__ import annotations

import csv
import dataclasses
import fnmatch
import functools
import importlib.resources
import re
from typing import Any

import flax.linen as nn

from jaxvision.errors import UserError, did_you_mean

_REGISTRY: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What is published with a model's weights in timm.

    Attributes:
      name: timm's model name.
      tag: the weight tag to which the settings and accuracies belong ("untrained": timm's settings, no weights).
      num_classes: of these weights; 1000, or ImageNet-12k's 11821 and ImageNet-21k's 21841 or 21843.
      input_size, test_input_size: pixels of a side in training and in timm's test setting (None: the same).
      crop_pct, test_crop_pct: share of the resized short side that evaluation keeps (None: the same).
      crop_mode: "center" keeps the aspect ratio and cuts; "squash" resizes both sides to the same.
      interpolation: of the evaluation resize.
      mean, std: RGB normalisation for pixels scaled to [0, 1].
      top1, top1_at_test: ImageNet top-1 in percent at the two sizes, timm's results (None: not published).
      params_m: parameters in millions, with the default tag's classes.
      gmacs: multiply-accumulates in 1e9 at ``gmacs_at`` pixels.
    """

    name: str
    tag: str
    num_classes: int
    input_size: int
    test_input_size: int | None
    crop_pct: float
    test_crop_pct: float | None
    crop_mode: str
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    top1: float | None
    top1_at_test: float | None
    params_m: float
    gmacs: float
    gmacs_at: int


def register(module: type[nn.Module], variants: dict[str, dict[str, Any]]) -> None:
    """Adds a family: ``variants`` maps timm names to keyword arguments of ``module``."""
    for name, arguments in variants.items():
        if name in _REGISTRY:
            raise ValueError(f"model {name!r} is registered twice")
        _REGISTRY[name] = (module, arguments)


def lookup(name: str) -> tuple[type[nn.Module], dict[str, Any]]:
    """The module class and keyword arguments of a model name; a weight tag behind a dot is ignored."""
    name = name.partition(".")[0]
    if name not in _REGISTRY:
        raise UserError(
            f"unknown model {name!r}.{did_you_mean(name, _REGISTRY)} "
            f"jaxvision.list_models() names all {len(_REGISTRY)} models."
        )
    return _REGISTRY[name]


def list_models(pattern: str = "*") -> list[str]:
    """Model names that match a shell pattern, in natural order ("resnet18" before "resnet101")."""

    def natural(name: str) -> list[tuple[int, int, str]]:
        return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name) if part]

    return sorted(fnmatch.filter(_REGISTRY, pattern), key=natural)


def model_spec(name: str) -> ModelSpec:
    """The published constants of a model, "convnext_tiny", or of certain weights, "convnext_tiny.fb_in1k".

    Without a tag: of timm's default weights.
    """
    lookup(name)
    name, _, tag = name.partition(".")
    tags = _specs()[name]
    if tag and tag not in tags:
        raise UserError(
            f"no weights {tag!r} of {name}.{did_you_mean(tag, tags)} There are: {', '.join(tags)} (the first: default)"
        )
    return tags[tag] if tag else next(iter(tags.values()))


@functools.cache
def _specs() -> dict[str, dict[str, ModelSpec]]:
    """name -> tag -> spec, the default tag first."""
    convert = {
        "str": str,
        "int": int,
        "float": float,
        "int | None": lambda s: int(s) if s else None,
        "float | None": lambda s: float(s) if s else None,
        "tuple[float, float, float]": lambda s: tuple(map(float, s.split())),
    }
    types = {field.name: convert[field.type] for field in dataclasses.fields(ModelSpec)}
    sizes = {row["name"]: row for row in _rows("specs.csv")}
    specs: dict[str, dict[str, ModelSpec]] = {}
    for row in _rows("tags.csv"):
        values = {key: types[key](value) for key, value in (row | sizes[row["name"]]).items()}
        specs.setdefault(row["name"], {})[row["tag"]] = ModelSpec(**values)
    return specs


def _rows(file: str) -> list[dict[str, str]]:
    text = importlib.resources.files("jaxvision.models").joinpath(file).read_text()
    return list(csv.DictReader(text.splitlines()))
