"""Model names: the network that each one builds, and what is published with its weights."""

from __future__ import annotations

import csv
import dataclasses
import fnmatch
import functools
import importlib.resources
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxvision import resources
from jaxvision.errors import UserError, did_you_mean
from jaxvision.files import workdir_hint
from jaxvision.models.classifier import Classifier
from jaxvision.models.stochastic_depth import DROP_PATH_RULES
from jaxvision.ops.dtypes import DType

UNTRAINED = "untrained"  # instead of a tag: nobody publishes weights of this name
CUSTOM = "custom"  # instead of a tag: weights of somebody else
_REGISTRY: dict[str, tuple[type[Classifier], dict[str, Any]]] = {}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What timm publishes with a model's weights: preprocessing, size and accuracy.

    Attributes:
      name: timm's model name.
      tag: of the weights to which the settings and accuracies belong; "untrained" where there are no weights.
      num_classes: of these weights; 1000, or ImageNet-12k's 11821 and ImageNet-21k's 21841 or 21843.
      input_size, test_input_size: pixels of a side in training and in timm's test setting (None: the same).
      crop_pct, test_crop_pct: share of the resized short side that evaluation keeps (None: the same).
      crop_mode: "center" keeps the aspect ratio and crops; "squash" resizes both sides to the same length.
      interpolation: of the evaluation resize.
      mean, std: RGB normalisation for pixels scaled to [0, 1].
      top1, top1_at_test: ImageNet top-1 in percent at the two sizes, timm's results (None: not published).
      params_m: parameters in millions, with the default tag's classes.
      gmacs: multiply-accumulates in 1e9 at ``gmacs_at`` pixels.
      class_names: of these weights, in the classifier's order, where they name them (None: they do not).
      class_descriptions: the same for people, where ``class_names`` are ids.
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
    class_names: tuple[str, ...] | None = None
    class_descriptions: tuple[str, ...] | None = None

    def of_other_classes(self, count: int) -> ModelSpec:
        """The spec of the same network with another classifier, of which nothing is published."""
        return dataclasses.replace(
            self, num_classes=count, class_names=None, class_descriptions=None, top1=None, top1_at_test=None
        )

    @property
    def published(self) -> bool:
        """Whether timm publishes weights of this name and tag."""
        return self.tag not in (UNTRAINED, CUSTOM)


def register(family: type[Classifier], variants: dict[str, dict[str, Any]]) -> None:
    """Adds a family of models.

    Args:
      family: the class of its network.
      variants: model name to the keyword arguments of ``family``.
    """
    if not hasattr(family, "layer_groups"):
        raise TypeError(f"{family.__name__} needs the class attribute layer_groups, a classifier.LayerGroups")
    for name, arguments in variants.items():
        if name in _REGISTRY:
            raise ValueError(f"model {name!r} is registered twice")
        _REGISTRY[name] = (family, arguments)


def lookup(name: str) -> tuple[type[Classifier], dict[str, Any]]:
    """The class and the keyword arguments of a model name; a weight tag after a dot is ignored."""
    if not isinstance(name, str):
        raise UserError(f"expected the name of a model, a string, got {name!r}")
    model = name.partition(".")[0]
    if model not in _REGISTRY or "/" in name:
        _refuse_path(name)
        # Nearly a name of published weights, "resnet50_a1_in1k", is far from every model's.
        written = re.sub(r"\W", "_", name)
        weights = [f"{model}.{tag}" for model, tags in _specs().items() for tag in tags if f"{model}_{tag}" == written]
        hint = did_you_mean(weights[0], weights) if weights else did_you_mean(model, _REGISTRY)
        raise UserError(f"unknown model {name!r}.{hint} jaxvision.list_models() names all {len(_REGISTRY)} models.")
    return _REGISTRY[model]


def _refuse_path(name: str) -> None:
    """Checks that a name that is no model's is neither a folder, a file, a recipe nor a repository of the hub.

    Raises:
      UserError: it is; the message has the right spelling.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        hint = workdir_hint(Path(name)) or f'it is a folder, write "local-dir:{name}"'
        raise UserError(f"unknown model {name!r}: {hint}")
    if path.is_file():
        raise UserError(f'unknown model {name!r}: it is a file, write the name of its model, and weights="{name}"')
    own = Path("configs") / f"{path.stem}.py"
    if path.stem in resources.recipes() or own.is_file():
        recipe = own if own.is_file() else path.stem
        raise UserError(f"unknown model {name!r}: it is a recipe, which is trained with --config {recipe}")
    prefix, colon, rest = name.partition(":")
    if colon and prefix in ("hf-hub", "local-dir"):
        raise UserError(f'{name!r} names weights, a model\'s name is expected: write it, and weights="{name}"')
    if colon and len(prefix) > 1:  # one letter is a drive of Windows
        raise UserError(f'unknown prefix "{prefix}:" of {name!r}: expected "hf-hub:{rest}", or "local-dir:{rest}"')
    if "/" in name:
        raise UserError(f'unknown model {name!r}: expected "hf-hub:{name}", or "local-dir:{name}" for a folder')


def build_module(
    name: str,
    *,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    dtype: DType = jnp.float32,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    drop_path_rule: str | None = None,
    bn_momentum: float | None = None,
    bn_groups: int = 1,
    remat: bool = False,
    layer_scale: float | None = None,
    zero_last_scale: bool | None = None,
) -> Classifier:
    """The flax.linen module of a model name.

    Args:
      name: one of :func:`list_models`.
      num_classes: number of classes; by default that of the published weights, mostly 1000.
      image_size: pixels of a side, or (height, width), for networks that are built for one size; by default the
        model's own. Networks that take any size ignore it.
      dtype, drop_rate, drop_path_rate, bn_groups, remat: see :class:`Classifier`.
      drop_path_rule, bn_momentum: see :class:`Classifier`; by default the model's own.
      layer_scale: initial value of the layer scale, for networks that have one; by default the model's own.
      zero_last_scale: see :class:`~jaxvision.models.resnet.ResNet`, for those; by default the model's own.

    Raises:
      UserError: an unknown name, or values that make no sense, all of them in one message.
    """
    family, arguments = lookup(name)
    module = family(
        **arguments,
        num_classes=model_spec(name).num_classes if num_classes is None else num_classes,
        dtype=dtype,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        bn_groups=bn_groups,
        remat=remat,
    )
    changes: dict[str, Any] = {}
    problems = []
    try:
        check_classes(module.num_classes)
    except UserError as error:
        problems.append(str(error))
    try:
        floating = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        problems.append(f"dtype = {dtype}: pass a floating-point type, such as jnp.float32 or jnp.bfloat16")
    for field, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
        if not 0 <= rate < 1:
            problems.append(f"{field} = {rate}: pass a probability of at least 0 and below 1")
    if drop_path_rule is not None:
        changes["drop_path_rule"] = drop_path_rule
        if drop_path_rule not in DROP_PATH_RULES:
            problems.append(f"drop_path_rule = {drop_path_rule!r}: pass one of {', '.join(DROP_PATH_RULES)}")
    if bn_momentum is not None:
        changes["bn_momentum"] = bn_momentum
        if not 0 <= bn_momentum <= 1:
            problems.append(f"bn_momentum = {bn_momentum}: pass a share between 0 and 1")
    if image_size is not None and module.image_size is not None:
        changes["image_size"] = size_pair(image_size)
    if layer_scale is not None:
        changes["layer_scale"] = layer_scale
        if module.layer_scale is None:
            problems.append(f"layer_scale = {layer_scale}: {name} has no layer scale, leave it out")
    if zero_last_scale is not None:
        changes["zero_last_scale"] = zero_last_scale
        if module.zero_last_scale is None:
            problems.append(f"zero_last_scale = {zero_last_scale}: only ResNets have it, leave it out for {name}")
    if problems:
        raise UserError(f"cannot build {name}:\n  " + "\n  ".join(problems))
    return module.clone(**changes)


def check_classes(count: Any) -> None:
    """Checks a number of classes.

    Raises:
      UserError: it is none, or no number at all.
    """
    if not isinstance(count, int | np.integer) or count < 1:
        hint = "; for pooled features call model.embed(images)" if count == 0 else ""
        raise UserError(f"num_classes = {count!r}: pass a number of at least 1{hint}")


def size_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image size that may be one number for both.

    Raises:
      UserError: it is neither.
    """
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2 or not all(isinstance(side, int | np.integer) for side in sides):
        raise UserError(f"image_size = {size!r}: pass pixels of a side, 224, or (height, width)")
    return int(sides[0]), int(sides[1])


def list_models(
    pattern: str | Sequence[str] = "*", *, pretrained: bool = False, exclude_filters: str | Sequence[str] = ()
) -> list[str]:
    """Names of models, or of published weights, in natural order ("resnet18" before "resnet101").

    Args:
      pattern: a shell pattern such as "convnext*", or several; what matches one of them is listed. A pattern with a
        dot, "convnext_tiny.*", is compared with names of weights, and lists these.
      pretrained: list the published weights, "resnet50.a1_in1k", that ``create_model(name, pretrained=True)`` loads;
        a model's default weights come first.
      exclude_filters: a pattern, or several, of names that are left out.
    """
    patterns, excluded = ([p] if isinstance(p, str) else list(p) for p in (pattern, exclude_filters))

    def matches(name: str, patterns: list[str]) -> bool:
        """A pattern without a dot says nothing of the tag."""
        return any(fnmatch.fnmatchcase(name if "." in p else name.partition(".")[0], p) for p in patterns)

    def natural(name: str) -> list[tuple[int, int, str]]:
        return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name) if part]

    names = sorted(_REGISTRY, key=natural)
    weights = [f"{name}.{tag}" for name in names for tag, spec in _specs()[name].items() if spec.published]
    of_weights = patterns if pretrained else [p for p in patterns if "." in p]
    found = [] if pretrained else [n for n in names if matches(n, [p for p in patterns if "." not in p])]
    found += [n for n in weights if matches(n, of_weights)]
    return [n for n in found if not matches(n, excluded)]


def model_spec(name: str) -> ModelSpec:
    """What is published with a model's weights, "convnext_tiny.fb_in1k"; without a tag, with timm's default weights.

    Raises:
      UserError: no such model, or no such weights of it.
    """
    lookup(name)
    name, _, tag = name.partition(".")
    tags = _specs()[name]
    if tag and tag not in tags:
        _refuse_path(f"{name}.{tag}")
        raise UserError(
            f"no weights {tag!r} of {name}.{did_you_mean(tag, tags)} Its tags are {', '.join(tags)}; the first one is "
            "the default"
        )
    return tags[tag] if tag else next(iter(tags.values()))


@functools.cache
def _specs() -> dict[str, dict[str, ModelSpec]]:
    """Model name to tag to spec, the default tag first. Every name that is registered needs a row in both files."""
    convert = {
        "str": str,
        "int": int,
        "float": float,
        "int | None": lambda s: int(s) if s else None,
        "float | None": lambda s: float(s) if s else None,
        "tuple[float, float, float]": lambda s: tuple(map(float, s.split())),
    }
    types = {field.name: convert[field.type] for field in dataclasses.fields(ModelSpec) if field.type in convert}
    sizes = {row["name"]: row for row in _rows("specs.csv")}
    specs: dict[str, dict[str, ModelSpec]] = {}
    for row in _rows("tags.csv"):
        values = {key: types[key](value) for key, value in (row | sizes[row["name"]]).items()}
        specs.setdefault(row["name"], {})[row["tag"]] = ModelSpec(**values)
    return specs


def with_settings(name: str, tag: str, settings: Mapping[str, Any]) -> ModelSpec:
    """A model's spec for weights whose own settings are known, such as a repository's.

    Args:
      name: of the model.
      tag: of the weights. Accuracies are those of this tag, and unknown for a tag that :func:`list_models` lacks.
      settings: fields of :class:`ModelSpec`, over those of the tag or, without such a tag, of the default weights.
    """
    known = _specs()[model_spec(name).name].get(tag)
    if known is None:
        known = dataclasses.replace(model_spec(name), tag=CUSTOM, top1=None, top1_at_test=None)
        known = dataclasses.replace(known, test_input_size=None, test_crop_pct=None)
    return dataclasses.replace(known, **settings)


def _rows(file: str) -> list[dict[str, str]]:
    text = importlib.resources.files("jaxvision.models").joinpath(file).read_text()
    return list(csv.DictReader(text.splitlines()))
