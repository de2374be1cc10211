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
    """What is published with a model's default timm weights.

    Attributes:
      name: timm's model name.
      tag: the weight tag to which the settings and accuracies belong.
      input_size, test_input_size: pixels of a side in training and in timm's test setting (None: the same).
      crop_pct, test_crop_pct: share of the resized short side that evaluation keeps.
      interpolation: of the evaluation resize.
      mean, std: RGB normalisation for pixels scaled to [0, 1].
      params_m: parameters in millions, with 1000 classes.
      gmacs: multiply-accumulates in 1e9 at ``gmacs_at`` pixels.
      top1, top1_at_test: ImageNet top-1 in percent, timm's results (None: not published).
    """

    name: str
    tag: str
    input_size: int
    test_input_size: int | None
    crop_pct: float
    test_crop_pct: float | None
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    params_m: float
    gmacs: float
    gmacs_at: int
    top1: float | None
    top1_at_test: float | None


def register(module: type[nn.Module], variants: dict[str, dict[str, Any]]) -> None:
    """Adds a family: ``variants`` maps timm names to keyword arguments of ``module``."""
    for name, arguments in variants.items():
        if name in _REGISTRY:
            raise ValueError(f"model {name!r} is registered twice")
        _REGISTRY[name] = (module, arguments)


def lookup(name: str) -> tuple[type[nn.Module], dict[str, Any]]:
    """The module class and keyword arguments of a model name."""
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
    """The published constants of a model; see :class:`ModelSpec`."""
    lookup(name)
    specs = _specs()
    if name not in specs:
        # Rows exist for the weights timm publishes; relatives without weights use timm's defaults.
        raise UserError(f"model {name!r} has no published constants in specs.csv")
    return specs[name]


@functools.cache
def _specs() -> dict[str, ModelSpec]:
    text = importlib.resources.files("jaxvision.models").joinpath("specs.csv").read_text()
    convert = {
        "str": str,
        "int": int,
        "float": float,
        "int | None": lambda s: int(s) if s else None,
        "float | None": lambda s: float(s) if s else None,
        "tuple[float, float, float]": lambda s: tuple(map(float, s.split())),
    }
    types = {field.name: convert[field.type] for field in dataclasses.fields(ModelSpec)}
    rows = csv.DictReader(text.splitlines())
    return {row["name"]: ModelSpec(**{key: types[key](value) for key, value in row.items()}) for row in rows}
