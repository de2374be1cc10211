"""Weights by name: a model's published weights, a repository of the hub, or a folder that has their layout.

A name is one of

  - "resnet50.a1_in1k", a model and a tag of :func:`jaxvision.list_models(pretrained=True) <jaxvision.list_models>`, or
    "resnet50" for the default tag: the repository that timm publishes on the hub;
  - "hf-hub:owner/name", "hf-hub:owner/name@revision": a repository with the layout of timm's; "hf_hub:", as timm also
    writes it, is the same;
  - "local-dir:PATH": a folder with ``config.json`` and weights, such as :func:`jaxvision.save_pretrained` writes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from jaxvision.errors import UserError
from jaxvision.files import workdir_hint
from jaxvision.models.registry import ModelSpec, build_module, model_spec, with_settings
from jaxvision.weights.hub import HubAccess, fetch

HUBS, FOLDER = ("hf-hub:", "hf_hub:"), "local-dir:"
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")  # as timm looks for them
T = TypeVar("T")
_HARMLESS = {"pretrained", "drop_rate", "drop_path_rate", "proj_drop_rate", "attn_drop_rate"}  # of training alone


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that were named, and what their ``config.json`` says of the model.

    Attributes:
      file: of the weights; None where they were not asked for.
      spec: preprocessing, classes and accuracy of these weights.
      in_chans: channels of the images.
    """

    file: Path | None
    spec: ModelSpec
    in_chans: int


def is_source(name: str) -> bool:
    """Whether this names a repository or a folder, and not a model or a file."""
    return isinstance(name, str) and name.startswith((*HUBS, FOLDER))


def is_name(text: str) -> bool:
    """Whether this names weights: a repository, a folder, or a model with or without tag; otherwise it is a path."""
    if is_source(text):
        return True
    if Path(text).expanduser().exists():
        return False
    try:
        model_spec(text)
    except UserError:
        return False
    return True


def find(name: str, access: HubAccess, *, weights: bool = True) -> Published:
    """The weights of a name, downloaded where they are not here yet.

    Args:
      name: of a repository, a folder or a model.
      access: to the hub.
      weights: whether the weights are wanted, and not only what is said of them.

    Raises:
      UserError: there are no such weights, or they cannot be fetched; see :func:`~jaxvision.weights.hub.fetch`.
    """
    official, file = False, None
    if name.startswith(FOLDER):
        refuse_revision(access)
        config = _local_config(Path(name.removeprefix(FOLDER)).expanduser())
        if weights:
            file = _local_weights(config.parent)
    else:
        repository, revision = _repository(name)
        official = repository.startswith("timm/")
        if revision and access.revision not in (None, revision):
            raise UserError(f"{name} with revision={access.revision!r}: pass one revision, after @ or as the argument")
        if revision:
            access = dataclasses.replace(access, revision=revision)
        config = fetch(repository, [CONFIG], access)
        if weights:
            # Of the same commit, which is the name of the folder in the cache.
            file = fetch(repository, WEIGHTS, dataclasses.replace(access, revision=config.parent.name))
    return _described(name, config, file, official=official)


def refuse_revision(access: HubAccess) -> None:
    """Checks that no revision is asked for where nothing comes from the hub.

    Raises:
      UserError: one is.
    """
    if access.revision is not None:
        raise UserError(
            f"revision={access.revision!r} selects a commit of a repository of the hub, and no weights come from the "
            'hub here: leave it out, or name the repository, "hf-hub:OWNER/NAME"'
        )


def check_classes(found: Published, count: int) -> None:
    """Checks that a file has as many classes as the ``config.json`` beside it says.

    Raises:
      UserError: it has others.
    """
    if count != found.spec.num_classes:
        raise UserError(f"{found.file} has {count} classes, its {CONFIG} says {found.spec.num_classes}")


def check_architecture(spec: ModelSpec, name: str, source: str) -> None:
    """Checks that weights are of the model ``name``; ``source`` is how they were named.

    Raises:
      UserError: they are of another model.
    """
    if spec.name != name:
        raise UserError(f"{source} holds a {spec.name}, not a {name}")


def _repository(name: str) -> tuple[str, str | None]:
    """(repository, revision) of a name that is not a folder's."""
    if name.startswith(HUBS):
        repository, at, revision = name.partition(":")[2].partition("@")
        if at and not revision:
            raise UserError(f"{name}: expected a revision after @")
        return repository, revision or None
    spec = model_spec(name)
    if not spec.published:
        raise UserError(
            f"nobody publishes weights of {spec.name}: pass key=jax.random.key(seed) for random ones, or choose one of "
            "jaxvision.list_models(pretrained=True)"
        )
    return f"timm/{spec.name}.{spec.tag}", None


def _local_config(folder: Path) -> Path:
    """The config of a folder."""
    if not folder.is_dir():
        raise UserError(f"{FOLDER}{folder}: no such folder")
    config = folder / CONFIG
    if hint := workdir_hint(folder):
        raise UserError(f"{FOLDER}{folder}: {hint}")
    if not config.is_file():
        raise UserError(f"{folder} has no {CONFIG}: expected a folder as jaxvision.save_pretrained or timm writes it")
    return config


def _local_weights(folder: Path) -> Path:
    """The weights of a folder."""
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise UserError(f"{folder} has none of the files {', '.join(WEIGHTS)}")
    return weights


def _described(name: str, config: Path, weights: Path | None, *, official: bool) -> Published:
    """What a config.json in timm's layout says; accuracies are those of its tag where the repository is ``official``.

    Source: timm's ``_parse_model_cfg`` in models/_hub.py.
    """
    try:
        document = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{name}: {config} cannot be read as JSON: {error}") from error
    fields = _Fields(f"{name}: {CONFIG}", document)
    # Older files have everything on one level.
    weights_fields = fields.section("pretrained_cfg") if "pretrained_cfg" in fields.values else fields
    arguments = fields.section("model_args") if fields.values.get("model_args") else _Fields(fields.where, {})
    architecture = fields.take("architecture", str)
    if architecture is None:
        raise UserError(f"{fields.where} names no architecture: it is not of a model that timm can load")
    architecture = model_spec(architecture).name
    pooling = build_module(architecture).global_pool
    for section in (fields, arguments):
        section.take("global_pool", _choice(pooling))
    unknown = sorted(set(arguments.values) - _HARMLESS - {"num_classes", "in_chans", "img_size", "global_pool"})
    if unknown:
        raise UserError(
            f"{fields.where}: models here have no arguments {', '.join(unknown)} (model_args). Build the model that "
            f"fits, and pass weights={weights or 'FILE'}"
        )

    def size(field: str) -> tuple[int | None, int | None]:
        """Channels, and pixels of a side."""
        shape = weights_fields.take(field, _shape)
        return (None, None) if shape is None else shape

    channels, pixels = size("input_size")
    tag = weights_fields.take("tag", str) or "" if official else ""
    count = arguments.take("num_classes", _whole)
    for section in (fields, weights_fields):
        count = section.take("num_classes", _whole) if count is None else count
    if count == 0:
        raise UserError(f"{name} has no classifier (num_classes = 0), and models here have one")
    names, descriptions = _class_names(fields) or _class_names(weights_fields) or (None, None)
    settings = {
        "num_classes": count,
        "input_size": arguments.take("img_size", _side) or pixels,
        "test_input_size": size("test_input_size")[1],
        "crop_pct": weights_fields.take("crop_pct", _positive),
        "test_crop_pct": weights_fields.take("test_crop_pct", _positive),
        "crop_mode": weights_fields.take("crop_mode", _choice("center", "squash")),
        "interpolation": weights_fields.take("interpolation", _choice("bicubic", "bilinear")),
        "mean": weights_fields.take("mean", _rgb),
        "std": weights_fields.take("std", lambda value: tuple(map(_positive, _rgb(value)))),
        "class_names": names,
        "class_descriptions": descriptions,
    }
    spec = with_settings(architecture, tag, {key: value for key, value in settings.items() if value is not None})
    if spec.class_names is not None and len(spec.class_names) != spec.num_classes:
        raise UserError(f"{fields.where} names {len(spec.class_names)} classes (label_names) of {spec.num_classes}")
    return Published(weights, spec, arguments.take("in_chans", _whole) or channels or 3)


class _Fields:
    """Values of a JSON object from outside, each checked as it is taken."""

    def __init__(self, where: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise UserError(f"{where}: expected an object, got {type(values).__name__}")
        self.where, self.values = where, values

    def section(self, name: str) -> _Fields:
        return _Fields(f"{self.where}, {name}", self.values[name])

    def take(self, name: str, convert: Callable[[Any], T]) -> T | None:
        """A field's value; None where it is absent or null.

        Raises:
          UserError: it does not convert.
        """
        value = self.values.get(name)
        if value is None:
            return None
        try:
            return convert(value)
        except (TypeError, ValueError, KeyError) as error:
            raise UserError(f"{self.where}: {name} = {json.dumps(value)[:80]} is not supported: {error}") from error


def _whole(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= 1_000_000:
        raise ValueError("expected a whole number")
    return value


def _positive(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 < value < 1000:
        raise ValueError("expected a positive number")
    return float(value)


def _side(value: Any) -> int:
    """Pixels of a side, from a number or a pair of equal ones."""
    sides = value if isinstance(value, list) else [value]
    if len(set(sides)) != 1 or not isinstance(sides[0], int) or not 1 <= sides[0] <= 4096:
        raise ValueError("expected a square of 1 to 4096 pixels")
    return sides[0]


def _shape(value: Any) -> tuple[int, int]:
    """(channels, pixels of a side) of [channels, height, width]."""
    if not isinstance(value, list) or len(value) != 3 or not isinstance(value[0], int) or value[0] < 1:
        raise ValueError("expected [channels, height, width]")
    return value[0], _side(value[1:])


def _rgb(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(number, int | float) for number in value):
        raise ValueError("expected a list of numbers")
    # Of one channel or of four there is one value, or timm has repeated or cut those of red, green and blue.
    return tuple(map(float, (value * 3)[:3]))


def _choice(*known: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if value not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return str(value)

    return convert


def _class_names(fields: _Fields) -> tuple[tuple[str, ...], tuple[str, ...] | None] | None:
    """The names of classes and their descriptions, in the classifier's order; None where there are no names."""

    def printable(name: Any) -> str:
        return "".join(character for character in str(name) if character.isprintable())

    def names(value: Any) -> tuple[str, ...]:
        if isinstance(value, dict):  # from the class's number; some may lack one
            value = [value.get(str(i), f"class {i}") for i in range(max(map(int, value), default=-1) + 1)]
        if not isinstance(value, list):
            raise ValueError("expected a list of names")
        return tuple(map(printable, value))

    found = fields.take("label_names", names) or fields.take("labels", names)
    if not found:
        return None
    descriptions = fields.take("label_descriptions", dict) or {}
    return found, tuple(printable(descriptions.get(name, name)) for name in found) if descriptions else None
