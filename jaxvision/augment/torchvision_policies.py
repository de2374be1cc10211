"""torchvision's policies: TrivialAugmentWide, RandAugment and AutoAugment on bins of magnitudes.

Their operations are Pillow's, their fill is black, and a factor of 1 plus a signed magnitude
is what brightness, color, contrast and sharpness take.
"""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augment import pil
from jaxvision.augment.autoaugment import draw_pair, pair_tables
from jaxvision.augment.policies import Policy
from jaxvision.errors import UserError

# Both in torchvision's order; AutoAugment has no Identity but an Invert.
OPS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert",
)  # fmt: skip
TRIVIAL_OPS = RAND_OPS = OPS[:-1]
FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")
BINS = 31
AUTO_BINS = 10
BLACK = (0, 0, 0)


def trivialaugment_wide(*, interpolation: str = "bilinear") -> Policy:
    """TrivialAugmentWide (Müller & Hutter 2021, arXiv 2103.10158): one operation, any strength.

    The strength is one of 31 bins, its sign a coin.
    """
    bins = np.arange(BINS) / (BINS - 1)
    pixels = np.trunc(bins * 32.0)
    pixels[BINS // 2] = 15.0  # torch's float32 bins fall just short of 16 there
    signed = {name: bins * 0.99 for name in ("ShearX", "ShearY", *FACTORS)}
    signed |= {"TranslateX": pixels, "TranslateY": pixels, "Rotate": bins * 135.0}
    table = _table(signed, _unsigned(BINS, lowest_bits=2))
    kinds = np.array([pil.KINDS.index(name) for name in OPS])

    def draw(u: jax.Array, layer: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        index = (u[:, 0] * len(TRIVIAL_OPS)).astype(jnp.int32)
        strength, sign = (u[:, 1] * BINS).astype(jnp.int32), (u[:, 2] < 0.5).astype(jnp.int32)
        return jnp.asarray(kinds)[index], jnp.asarray(table)[index, sign, strength]

    return Policy(3, 1, draw, BLACK, interpolation)


def torchvision_randaugment(text: str, *, interpolation: str = "bilinear") -> Policy:
    """torchvision's RandAugment of a string: "tv-ra", "tv-ra-n2-m9": n operations at bin m of 31, sign a coin.

    Raises:
      UserError: another string, or a bin over 30.
    """
    match = re.fullmatch(r"tv-ra(?:-n(\d+))?(?:-m(\d+))?", text)
    layers, magnitude = (int(match[1] or 2), int(match[2] or 9)) if match else (0, 0)
    if not (1 <= layers <= 16 and magnitude < BINS):
        raise UserError(f"augmentation policy {text!r}: expected tv-ra-nN-mM with M at most {BINS - 1}, as tv-ra-n2-m9")
    kinds = np.array([pil.KINDS.index(name) for name in OPS])

    def draw(uniforms: jax.Array, layer: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        u = uniforms[:, 2 * layer : 2 * layer + 2]
        index = (u[:, 0] * len(RAND_OPS)).astype(jnp.int32)
        table = _narrow(BINS, height, width)[:, :, magnitude]
        return jnp.asarray(kinds)[index], jnp.asarray(table)[index, (u[:, 1] < 0.5).astype(jnp.int32)]

    return Policy(2 * layers, layers, draw, BLACK, interpolation)


def torchvision_autoaugment(*, interpolation: str = "bilinear") -> Policy:
    """torchvision's AutoAugment with the ImageNet policy of the paper (Cubuk et al. 2018): magnitudes are 10 bins.

    One of 25 pairs per image, each operation applied with its own probability, its sign a coin.
    """
    index, probs, bins = pair_tables("original", OPS)
    kinds = np.array([pil.KINDS.index(name) for name in OPS])

    def draw(u: jax.Array, layer: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        pair, applied, coin = draw_pair(u, layer, probs)
        sign = (coin < 0.5).astype(jnp.int32)
        chosen = jnp.asarray(index)[pair, layer]
        value = jnp.asarray(_narrow(AUTO_BINS, height, width))[chosen, sign, jnp.asarray(bins)[pair, layer]]
        return jnp.where(applied, jnp.asarray(kinds)[chosen], 0), value

    return Policy(5, 2, draw, BLACK, interpolation)


def _narrow(count: int, height: int, width: int) -> np.ndarray:
    """Arguments (operation, sign, bin) of RandAugment and AutoAugment, which share their ranges."""
    bins = np.linspace(0.0, 1.0, count)
    signed = {name: bins * 0.9 for name in FACTORS} | {"ShearX": bins * 0.3, "ShearY": bins * 0.3}
    # Whole pixels; torch's bins are float32.
    for name, side in (("TranslateX", width), ("TranslateY", height)):
        signed[name] = np.trunc(np.linspace(0.0, np.float32(150.0 / 331.0 * side), count, dtype=np.float32))
    signed["Rotate"] = bins * 30.0
    return _table(signed, _unsigned(count, lowest_bits=4))


def _unsigned(count: int, lowest_bits: int) -> dict[str, np.ndarray]:
    posterize = 8 - np.round(np.arange(count) / ((count - 1) / (8 - lowest_bits)))
    return {"Posterize": posterize, "Solarize": np.linspace(255.0, 0.0, count)}


def _table(signed: dict[str, np.ndarray], unsigned: dict[str, np.ndarray]) -> np.ndarray:
    """(operation, sign, bin) of Pillow's arguments; 0 for operations without one."""
    count = len(unsigned["Solarize"])
    table = np.zeros((len(OPS), 2, count), np.float32)
    for i, name in enumerate(OPS):
        for s, sign in enumerate((1.0, -1.0)):
            table[i, s] = unsigned.get(name, sign * signed.get(name, np.zeros(count)) + (name in FACTORS))
    return table
