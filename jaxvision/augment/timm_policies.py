"""timm's policies: RandAugment of strings such as "rand-m9-mstd0.5-inc1", and its AutoAugment.

Their operations are Pillow's, and the fill is the mean color of the normalisation.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from jaxvision.augment import pillow_ops
from jaxvision.augment.autoaugment import choose_pair, pair_tables
from jaxvision.augment.stage import Stage
from jaxvision.errors import UserError

OPS = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RandArguments:
    """What a string such as ``rand-m9-mstd0.5-inc1`` says.

    Attributes:
      magnitude: m, of 10.
      layers: n, operations per image, chosen with replacement.
      prob: p, the probability that an operation is applied.
      std: mstd, the standard deviation of normal noise on the magnitude; infinity: uniform from 0 to the magnitude.
      ceiling: mmax, the largest magnitude after the noise.
      increasing: inc, use the variants of operations that get stronger with the magnitude.
    """

    magnitude: float = 10.0
    layers: int = 2
    prob: float = 0.5
    std: float = 0.0
    ceiling: float = 10.0
    increasing: bool = False


def _whole(number: float) -> float:
    return float(int(number))


# How a string names each field of RandArguments, and how timm reads its number.
SECTIONS: dict[str, tuple[str, Callable[[float], Any]]] = {
    "m": ("magnitude", _whole),
    "n": ("layers", int),
    "p": ("prob", float),
    "mstd": ("std", lambda number: math.inf if number > 100 else number),
    "mmax": ("ceiling", _whole),
    "inc": ("increasing", lambda number: bool(int(number))),
}


def parse_rand(text: str) -> RandArguments:
    """Reads a RandAugment string as timm does.

    Raises:
      UserError: a section that timm would reject or ignore, or that names another set of operations.
    """
    first, *sections = text.split("-")
    if first != "rand":
        raise UserError(f"augmentation policy {text!r}: expected a string such as rand-m9-mstd0.5-inc1")
    values: dict[str, Any] = {}
    for section in sections:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", section)
        if match is None or match[1] not in SECTIONS:
            known = ", ".join(SECTIONS)
            raise UserError(
                f"augmentation policy {text!r}: cannot read {section!r}; known: {known}, each with a number"
            )
        field, read = SECTIONS[match[1]]
        values[field] = read(float(match[2]))
    return RandArguments(**values)


def randaugment(text: str, *, mean: tuple[float, ...], interpolation: str) -> Stage:
    """timm's RandAugment (Cubuk et al. 2019, arXiv 1909.13719).

    Each of n operations is chosen from 15 and applied with probability p. Normal noise is added to its magnitude, and
    the sum is clamped to [0, mmax].

    Args:
      text: see :class:`RandArguments`.
      mean: of the normalisation, for the fill.
      interpolation: of geometric operations, one of :data:`pillow_ops.INTERPOLATIONS`.

    Raises:
      UserError: see :func:`parse_rand`.
    """
    a = parse_rand(text)
    kinds = pillow_ops.kind_indices(OPS)

    def choose(uniforms: jax.Array, layer: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        u = uniforms[:, 4 * layer : 4 * layer + 4]
        index = (u[:, 0] * len(OPS)).astype(jnp.int32)
        level = jnp.full(u.shape[0], a.magnitude)
        if math.isinf(a.std):
            level = u[:, 2] * a.magnitude
        elif a.std > 0:
            level = a.magnitude + a.std * ndtri(jnp.clip(u[:, 2], 1e-7, 1 - 1e-7))
        values = arguments(jnp.clip(level, 0.0, a.ceiling), u[:, 3] < 0.5, a.increasing, height, width)
        value = jnp.take_along_axis(jnp.stack([values[name] for name in OPS], 1), index[:, None], 1)[:, 0]
        applied = u[:, 1] < a.prob
        return jnp.where(applied, jnp.asarray(kinds)[index], 0), value

    return pillow_ops.layered(4 * a.layers, a.layers, choose, fill=mean_fill(mean), interpolation=interpolation)


def autoaugment(name: str, *, mean: tuple[float, ...], interpolation: str) -> Stage:
    """timm's AutoAugment: one of 25 pairs of operations per image, each applied with its probability and magnitude.

    Posterize keeps 4 to 8 bits in "original" and 0 to 4 in "v0", as in their two sources. Translations are relative to
    the side of the image, where tensorflow/tpu moves by up to 250 pixels.

    Args:
      name: of :data:`autoaugment.PAIRS`.
      mean: of the normalisation, for the fill.
      interpolation: of geometric operations, one of :data:`pillow_ops.INTERPOLATIONS`.
    """
    table, probs, levels = pair_tables(name, OPS)
    kinds = pillow_ops.kind_indices(OPS)

    def choose(u: jax.Array, layer: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        pair, applied, coin = choose_pair(u, layer, probs)
        index = jnp.asarray(table)[pair, layer]
        level = jnp.asarray(levels, jnp.float32)[pair, layer]
        values = arguments(level, coin < 0.5, False, height, width)
        if name == "original":
            values["Posterize"] = values["Posterize"] + 4
        value = jnp.take_along_axis(jnp.stack([values[op] for op in OPS], 1), index[:, None], 1)[:, 0]
        return jnp.where(applied, jnp.asarray(kinds)[index], 0), value

    return pillow_ops.layered(5, 2, choose, fill=mean_fill(mean), interpolation=interpolation)


def mean_fill(mean: tuple[float, ...]) -> tuple[int, ...]:
    """timm's fill: the mean of the normalisation as a color."""
    return tuple(min(255, round(255 * m)) for m in mean)


def arguments(level: jax.Array, positive: jax.Array, increasing: bool, height: int, width: int) -> dict[str, jax.Array]:
    """Each operation's argument for :func:`pillow_ops.apply`, float (B,).

    Args:
      level: the magnitude (B,), of 10.
      positive: bool (B,), the sign of operations that have one.
      increasing: the variants of operations that get stronger with the magnitude.
      height, width: of the images.
    """
    share = level / 10.0
    sign = jnp.where(positive, 1.0, -1.0)
    # Truncated to whole numbers; a float32 may be just below the whole number that timm's float64 reaches.
    whole = lambda x: jnp.floor(x + 1e-4)  # noqa: E731
    bits, threshold = whole(share * 4), jnp.minimum(256.0, whole(share * 256))
    factor = jnp.maximum(0.1, 1.0 + sign * share * 0.9) if increasing else share * 1.8 + 0.1
    nothing = jnp.zeros_like(level)
    return {
        "AutoContrast": nothing,
        "Equalize": nothing,
        "Invert": nothing,
        "Rotate": sign * share * 30.0,
        "Posterize": 4 - bits if increasing else bits,
        "Solarize": 256 - threshold if increasing else threshold,
        "SolarizeAdd": jnp.minimum(128.0, whole(share * 110)),
        "Color": factor,
        "Contrast": factor,
        "Brightness": factor,
        "Sharpness": factor,
        "ShearX": sign * share * 0.3,
        "ShearY": sign * share * 0.3,
        "TranslateX": sign * share * 0.45 * width,
        "TranslateY": sign * share * 0.45 * height,
    }
