"""What a policy is, and timm's RandAugment: which of Pillow's operations an image gets, and how strongly.

A policy is a function of uint8 images (B, H, W, 3) and of uniforms (B, n) in [0, 1), n its
``uniforms``: every draw of an image is one of its uniforms.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from jaxvision.augment import pil
from jaxvision.errors import UserError

TIMM_OPS = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY",
)  # fmt: skip

# Policies without parameters; jaxvision.augment.make_policy says what they are.
NAMED = ("trivial", "original", "v0", "tf-v0", "tv-imagenet", "3a")


@dataclasses.dataclass(frozen=True)
class Transform:
    """``transform(images, uniforms)``, where ``apply`` is all there is to say; an image needs so many ``uniforms``."""

    uniforms: int
    apply: Callable[[jax.Array, jax.Array], jax.Array]

    def __call__(self, images: jax.Array, uniforms: jax.Array) -> jax.Array:
        return self.apply(images, uniforms)


@dataclasses.dataclass(frozen=True)
class Policy:
    """``policy(images, uniforms)``.

    Attributes:
      uniforms: how many an image needs.
      layers: how many operations it gets, one after the other.
      draw: ``draw(uniforms, layer, height, width)``: kinds and arguments for :func:`pil.apply`.
      fill, interpolation: of the geometry.
    """

    uniforms: int
    layers: int
    draw: Callable[[jax.Array, int, int, int], tuple[jax.Array, jax.Array]]
    fill: tuple[int, int, int]
    interpolation: str

    def __call__(self, images: jax.Array, uniforms: jax.Array) -> jax.Array:
        height, width = images.shape[1:3]
        for layer in range(self.layers):
            kind, value = self.draw(uniforms, layer, height, width)
            images = pil.apply(images, kind, value, fill=self.fill, interpolation=self.interpolation)
        return images


@dataclasses.dataclass(frozen=True)
class RandArguments:
    """The parts of a timm string such as ``rand-m9-mstd0.5-inc1``.

    Attributes:
      magnitude: m, of 10.
      layers: n operations per image, with replacement.
      prob: p, that an operation is applied.
      std: mstd, of normal noise on the magnitude; infinite: uniform from 0 to it.
      ceiling: mmax, above which magnitudes are cut.
      increasing: inc: the operations' increasing forms.
    """

    magnitude: float = 10.0
    layers: int = 2
    prob: float = 0.5
    std: float = 0.0
    ceiling: float = 10.0
    increasing: bool = False


def parse_rand(text: str) -> RandArguments:
    """Reads a timm RandAugment string as timm does.

    Raises:
      UserError: a section that timm would reject, or ignore, or that names another set of operations.
    """
    first, *sections = text.split("-")
    if first != "rand":
        raise UserError(
            f"augmentation policy {text!r}: expected {', '.join(NAMED)}, tv-ra-n2-m9 (torchvision's RandAugment), or a "
            "timm string such as rand-m9-mstd0.5-inc1"
        )
    names = {"m": "magnitude", "n": "layers", "p": "prob", "mstd": "std", "mmax": "ceiling", "inc": "increasing"}
    values: dict[str, float] = {}
    for section in sections:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", section)
        if match is None or match[1] not in names:
            raise UserError(
                f"augmentation policy {text!r}: cannot read {section!r}; known: {', '.join(names)}, each with a number"
            )
        values[names[match[1]]] = float(match[2])
    std = values.pop("std", 0.0)
    return RandArguments(
        **{k: v for k, v in values.items() if k not in ("layers", "increasing", "magnitude", "ceiling")},
        layers=int(values.get("layers", 2)),
        magnitude=float(int(values.get("magnitude", 10))),
        ceiling=float(int(values.get("ceiling", 10))),
        increasing=bool(int(values.get("increasing", 0))),
        std=math.inf if std > 100 else std,
    )


def timm_randaugment(text: str, *, mean: tuple[float, float, float], interpolation: str) -> Policy:
    """timm's RandAugment of a string such as ``rand-m9-mstd0.5-inc1``.

    Each of n operations is drawn from 15 and applied with probability p; its magnitude has normal
    noise and is cut to [0, 10]; filled with the data's mean color.

    Args:
      text: see :class:`RandArguments`.
      mean: of the normalisation, for the fill.
      interpolation: of the geometry.
    """
    a = parse_rand(text)
    kinds = np.array([pil.KINDS.index(name) for name in TIMM_OPS])
    fill = mean_fill(mean)

    def draw(uniforms: jax.Array, layer: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        u = uniforms[:, 4 * layer : 4 * layer + 4]
        index = (u[:, 0] * len(TIMM_OPS)).astype(jnp.int32)
        level = jnp.full(u.shape[0], a.magnitude)
        if math.isinf(a.std):
            level = u[:, 2] * a.magnitude
        elif a.std > 0:
            level = a.magnitude + a.std * ndtri(jnp.clip(u[:, 2], 1e-7, 1 - 1e-7))
        values = timm_values(jnp.clip(level, 0.0, a.ceiling), u[:, 3] < 0.5, a.increasing, height, width)
        value = jnp.take_along_axis(jnp.stack([values[name] for name in TIMM_OPS], 1), index[:, None], 1)[:, 0]
        applied = u[:, 1] < a.prob
        # Eight bits kept are all of them; Pillow is not asked.
        return jnp.where(applied, jnp.asarray(kinds)[index], 0), value

    return Policy(4 * a.layers, a.layers, draw, fill, interpolation)


def mean_fill(mean: tuple[float, float, float]) -> tuple[int, int, int]:
    """timm's fill: the normalisation's mean as a color."""
    return tuple(min(255, round(255 * m)) for m in mean)


def timm_values(
    level: jax.Array, positive: jax.Array, increasing: bool, height: int, width: int
) -> dict[str, jax.Array]:
    """Each operation's argument at ``level`` (B,) of 10; ``positive`` (B,) is the sign where there is one."""
    share = level / 10.0
    sign = jnp.where(positive, 1.0, -1.0)
    # Whole numbers are cut, not rounded; float32 must not fall short of those that doubles reach.
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
