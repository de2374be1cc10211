"""The operations that jaxvision's policies draw, in the same form as those of the sources.

The stages run on drawn uniforms; only the pixels are left out: what would be applied is recorded instead.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from typing import Any
from unittest import mock

import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxvision.augment import (
    HOST_UNIFORMS,
    pillow_ops,
    program,
    resnest_policy,
    tensorflow_ops,
    three_augment,
    timm_policies,
)
from jaxvision.augment.config import AugmentConfig
from jaxvision.augment.stage import NetworkInput
from tools.parity.recipes.draws import distribution

DRAWS = 60_000
SIDE = 224
GREYS = (*range(0, 256, 15), 127, 128)
TABLES = ("Posterize", "Solarize", "SolarizeAdd")  # of TensorFlow: what they do to grey levels is compared
NAMES = {"Rotate": "plus or minus", "Cutout": "half side"}
NAMES |= dict.fromkeys(("ShearX", "ShearY", "TranslateX", "TranslateY"), "plus or minus")
NAMES |= dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), "factor")


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What a policy would apply to many images: operation and argument by layer, (layers, images)."""

    operations: tuple[str, ...]
    index: np.ndarray
    value: np.ndarray
    fill: tuple[int, ...]
    interpolation: str
    rotation: str | None
    radius: np.ndarray | None = None


@functools.cache
def drawn(config: AugmentConfig, mean: tuple[float, ...]) -> Drawn:
    """Runs a config's policy without its pixels."""
    network = NetworkInput(mean, mean, jnp.float32)
    layers: list[tuple[Any, Any]] = []
    seen: dict[str, Any] = {}

    def record(images: Any, index: Any, value: Any, *_: Any, **options: Any) -> Any:
        layers.append((np.broadcast_to(index, len(images)), np.broadcast_to(value, len(images))))
        seen.update(options)
        return images

    def blur(images: Any, radius: Any) -> Any:
        seen["radius"] = np.asarray(radius)
        return images

    layered = pillow_ops.layered

    def remember(*arguments: Any, **options: Any) -> Any:
        seen.update(options)
        return layered(*arguments, **options)

    with (
        mock.patch.object(pillow_ops, "layered", remember),
        mock.patch.object(pillow_ops, "apply", record),
        mock.patch.object(pillow_ops, "tone", record),
        mock.patch.object(tensorflow_ops, "apply", record),
        mock.patch.object(three_augment, "gaussian_blur", blur),
    ):
        tensorflow = program.tensorflow_randaugment(config, network)
        stage = tensorflow or program.policy(config, network)
        assert stage is not None, "the recipe has no policy"
        uniforms = np.random.default_rng(0).random((DRAWS, stage.uniforms), np.float32)
        side = 1 if config.policy == "3a" else SIDE  # of an image only the size matters, and not even that to 3-Augment
        stage.apply(np.broadcast_to(np.uint8(0), (DRAWS, side, side, 3)), jnp.asarray(uniforms))
    of_tensorflow = tensorflow is not None or config.policy == "tf-v0"
    index, value = (np.stack([np.asarray(layer[i]) for layer in layers]) for i in range(2))
    return Drawn(
        tensorflow_ops.OPS if of_tensorflow else pillow_ops.KINDS,
        index,
        value.astype(np.float64),
        (tensorflow_ops.FILL,) * 3 if of_tensorflow else seen.get("fill", ()),
        seen.get("interpolation", "nearest"),
        seen.get("rotation"),
        seen.get("radius"),
    )


@functools.cache
def tensorflow_table(operation: str, value: float) -> tuple[int, ...]:
    """What a colour operation with an argument makes of grey levels."""
    greys = jnp.asarray(np.repeat(np.array(GREYS, np.uint8)[None, :, None, None], 3, 3))
    index = jnp.full(1, tensorflow_ops.OPS.index(operation), jnp.int32)
    result = tensorflow_ops.apply(greys, index, jnp.full(1, value, jnp.float32), jnp.zeros((1, 2)))
    return tuple(np.asarray(result)[0, :, 0, 0].tolist())


def _argument(found: Drawn, operation: str, value: float) -> dict[str, Any]:
    """An operation's argument in the form of the fixtures."""
    if operation in ("AutoContrast", "Equalize", "Invert", "Identity"):
        return {}
    if found.operations is tensorflow_ops.OPS:
        if operation in TABLES:
            return {"table": list(tensorflow_table(operation, value))}
        if operation == "Rotate":
            value = float(np.rad2deg(value))
    elif operation in TABLES:
        return {{"Posterize": "bits", "Solarize": "threshold", "SolarizeAdd": "addition"}[operation]: round(value)}
    return {NAMES[operation]: abs(value)}


def random_operations(config: AugmentConfig, mean: tuple[float, ...]) -> dict[str, Any]:
    """Policies in which every layer draws one operation: shares, and each one's argument."""
    found = drawn(config, mean)
    operations = {}
    for i, name in enumerate(found.operations):
        chosen = found.index == i
        if chosen.any():
            values = np.unique(np.abs(found.value[chosen]))
            assert len(values) == 1, f"{name} has several arguments: {values}"
            operations[name] = {"share": float(chosen.mean())} | _argument(found, name, float(values[0]))
    return {"layers": len(found.index), "fill": list(found.fill), "operations": operations}


def bins(config: AugmentConfig, mean: tuple[float, ...]) -> dict[str, Any]:
    """Policies whose arguments are bins: every argument that was drawn."""
    found = drawn(config, mean)
    operations = {}
    for i, name in enumerate(found.operations):
        chosen = found.index == i
        if chosen.any():
            values = [] if name in ("Identity", "AutoContrast", "Equalize") else np.unique(found.value[chosen] + 0.0)
            operations[name] = {"share": float(chosen.mean()), "arguments": [float(v) for v in values]}
    return {"layers": len(found.index), "fill": list(found.fill), "operations": operations}


def randaugment(config: AugmentConfig, mean: tuple[float, ...]) -> dict[str, Any]:
    """timm's RandAugment: how often each operation is applied, its arguments at each level, and those drawn."""
    found = drawn(config, mean)
    increasing = timm_policies.parse_rand(config.policy).increasing
    levels = np.repeat(np.arange(11.0), 2)
    signs = np.tile([True, False], 11)
    by_level = timm_policies.arguments(jnp.asarray(levels), jnp.asarray(signs), increasing, SIDE, SIDE)
    operations = {}
    for i, name in enumerate(found.operations):
        chosen = found.index == i
        if name == "Identity" or not chosen.any():
            continue
        operations[name] = {"share": float(chosen.mean())}
        if name in ("AutoContrast", "Equalize", "Invert"):
            continue
        unit = SIDE if name.startswith("Translate") else 1
        pairs = np.asarray(by_level[name], np.float64).reshape(11, 2) / unit
        operations[name]["arguments"] = [sorted({float(v) + 0.0 for v in pair}) for pair in pairs]
        operations[name]["drawn"] = distribution(found.value[chosen] / unit)
    return {"layers": len(found.index), "fill": list(found.fill), "operations": operations}


def outcomes(config: AugmentConfig, mean: tuple[float, ...]) -> dict[str, float]:
    """Policies of pairs: the probability of each pair of applied operations with their arguments."""
    found = drawn(config, mean)
    nothing = {-1, found.operations.index("Identity")} if "Identity" in found.operations else {-1}
    parts = np.stack([found.index, np.round(found.value, 4)], -1)
    distinct, counts = np.unique(parts.transpose(1, 0, 2).reshape(DRAWS, -1), axis=0, return_counts=True)
    result: Counter[str] = Counter()
    for row, count in zip(distinct, counts, strict=True):
        steps = []
        for index, value in row.reshape(-1, 2):
            if int(index) not in nothing:
                name = found.operations[int(index)]
                steps.append(outcome(name, _argument(found, name, float(value)), value))
        result[" + ".join(steps) or "nothing"] += count / DRAWS
    return dict(result)


@functools.cache
def host_outcomes() -> dict[str, float]:
    """:func:`outcomes` of ResNeSt's policy, which the host applies to the whole image."""
    steps: list[str] = []

    def record(name: str, image: Any, value: float) -> Any:
        kind = NAMES.get(name, {"Posterize": "bits", "Solarize": "threshold"}.get(name))
        steps.append(outcome(name, {kind: abs(value)} if kind else {}, value))
        return image

    recorders = {name: functools.partial(record, name) for name in resnest_policy.PILLOW}
    image, result = np.zeros((1, 1, 3), np.uint8), Counter[str]()
    with mock.patch.dict(resnest_policy.PILLOW, recorders):
        for uniforms in np.random.default_rng(0).random((DRAWS, HOST_UNIFORMS)):
            steps.clear()
            resnest_policy.autoaugment_on_host(image, uniforms)
            result[" + ".join(steps) or "nothing"] += 1 / DRAWS
    return dict(result)


def host_geometry() -> dict[str, Any]:
    """What ResNeSt's policy on the host fills with, and whether its rotation takes the nearest pixel."""
    white = np.full((9, 9, 3), 255, np.uint8)
    white[4:] = 100
    turned = np.asarray(resnest_policy.PILLOW["Rotate"](Image.fromarray(white), 30.0))
    levels = np.unique(turned[..., 0]).tolist()
    return {"fill": turned[0, 0].tolist(), "rotation": "nearest" if levels == [0, 100, 255] else "interpolated"}


def outcome(name: str, argument: dict[str, Any], sign: float = 1.0) -> str:
    """The name of an operation with its argument."""
    if not argument:
        return name
    ((kind, value),) = argument.items()
    if kind == "plus or minus":
        return f"{name} {'-' if sign < 0 and value else ''}{value:.3g}"
    return f"{name} {value:.3g}" if kind == "factor" else f"{name} {value}"


def expand(sub_policies: list[list[dict[str, Any]]]) -> dict[str, float]:
    """:func:`outcomes` of a source's sub-policies."""
    result: Counter[str] = Counter()
    for pair in sub_policies:
        ways = [("", 1 / len(sub_policies))]
        for step in pair:
            argument = {key: value for key, value in step.items() if key not in ("operation", "probability")}
            signs = (1.0, -1.0) if argument.get("plus or minus") else (1.0,)
            applied = [(outcome(step["operation"], argument, sign), step["probability"] / len(signs)) for sign in signs]
            ways = [
                (" + ".join(filter(None, (before, name))), chance * share)
                for before, chance in ways
                for name, share in [*applied, ("", 1 - step["probability"])]
            ]
        for name, chance in ways:
            result[name or "nothing"] += chance
    return {name: chance for name, chance in result.items() if chance > 0}


def three_choices(config: AugmentConfig, mean: tuple[float, ...]) -> dict[str, Any]:
    """DeiT-III's three operations."""
    found = drawn(config, mean)
    kind, value = found.index[0], found.value[0]
    grey = (kind == pillow_ops.KINDS.index("Color")) & (value == 0)
    solarized = kind == pillow_ops.KINDS.index("Solarize")
    blurred = kind == 0
    assert (grey | solarized | blurred).all() and found.radius is not None
    radius = found.radius[blurred]
    return {
        "choices": {
            "Grayscale": {"share": float(grey.mean())},
            "Solarize": {"share": float(solarized.mean()), "threshold": float(np.unique(value[solarized]).item())},
            "GaussianBlur": {"share": float(blurred.mean()), "radius": [float(radius.min()), float(radius.max())]},
        }
    }
