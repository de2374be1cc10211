"""torchvision's policies: TrivialAugmentWide, RandAugment and AutoAugment, whose magnitudes are bins.

Their operations are Pillow's, and their fill is black. Brightness, Color, Contrast and Sharpness have the factor 1 plus
a signed magnitude.
"""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augment import pillow_ops
from jaxvision.augment.autoaugment import choose_pair, pair_tables
from jaxvision.augment.stage import Stage
from jaxvision.errors import UserError

# In torchvision's order. Only AutoAugment has Invert, the last one, and only the others have Identity.
OPS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert",
)  # fmt: skip
TRIVIAL_OPS = RAND_OPS = OPS[:-1]
FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")
BINS = 31
AUTO_BINS = 10
BLACK = (0, 0, 0)


def trivialaugment_wide(*, interpolation: str) -> Stage:
    """TrivialAugmentWide (Müller & Hutter 2021, arXiv 2103.10158): one operation per image, at any strength.

    The strength is one of 31 bins; its sign is positive or negative with equal probability.

    Args:
      interpolation: of geometric operations, one of :data:`pillow_ops.INTERPOLATIONS`.
    """
    bins = np.arange(BINS) / (BINS - 1)
    pixels = np.trunc(bins * 32.0)
    pixels[BINS // 2] = 15.0  # torch's float32 bin is just below 16 there
    signed = {name: bins * 0.99 for name in ("ShearX", "ShearY", *FACTORS)}
    signed |= {"TranslateX": pixels, "TranslateY": pixels, "Rotate": bins * 135.0}
    table = _table(signed, _unsigned(BINS, lowest_bits=2))
    kinds = pillow_ops.kind_indices(OPS)

    def choose(u: jax.Array, layer: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        index = (u[:, 0] * len(TRIVIAL_OPS)).astype(jnp.int32)
        strength, sign = (u[:, 1] * BINS).astype(jnp.int32), (u[:, 2] < 0.5).astype(jnp.int32)
        return jnp.asarray(kinds)[index], jnp.asarray(table)[index, sign, strength]

    return pillow_ops.layered(3, 1, choose, fill=BLACK, interpolation=interpolation)


def randaugment(text: str, *, interpolation: str) -> Stage:
    """torchvision's RandAugment (Cubuk et al. 2019, arXiv 1909.13719): n operations per image at bin m of 31.

    The sign of each is positive or negative with equal probability.

    Args:
      text: "tv-ra" for n = 2 and m = 9, or with one or both of them, as in "tv-ra-n2-m9".
      interpolation: of geometric operations, one of :data:`pillow_ops.INTERPOLATIONS`.

    Raises:
      UserError: another string, n not in 1 to 16, or m over 30.
    """
    match = re.fullmatch(r"tv-ra(?:-n(\d+))?(?:-m(\d+))?", text)
    layers, magnitude = (int(match[1] or 2), int(match[2] or 9)) if match else (0, 0)
    if not (1 <= layers <= 16 and magnitude < BINS):
        raise UserError(f"augmentation policy {text!r}: expected tv-ra-nN-mM, N from 1 to 16, M up to {BINS - 1}")
    kinds = pillow_ops.kind_indices(OPS)

    def choose(uniforms: jax.Array, layer: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        u = uniforms[:, 2 * layer : 2 * layer + 2]
        index = (u[:, 0] * len(RAND_OPS)).astype(jnp.int32)
        table = _narrow(BINS, height, width)[:, :, magnitude]
        return jnp.asarray(kinds)[index], jnp.asarray(table)[index, (u[:, 1] < 0.5).astype(jnp.int32)]

    return pillow_ops.layered(2 * layers, layers, choose, fill=BLACK, interpolation=interpolation)


def autoaugment(*, interpolation: str) -> Stage:
    """torchvision's AutoAugment with the paper's ImageNet policy (Cubuk et al. 2018): one of 25 pairs per image.

    Each operation is applied with its own probability, at one of 10 bins, with a positive or negative sign with equal
    probability.

    Args:
      interpolation: of geometric operations, one of :data:`pillow_ops.INTERPOLATIONS`.
    """
    index, probs, bins = pair_tables("original", OPS)
    kinds = pillow_ops.kind_indices(OPS)

    def choose(u: jax.Array, layer: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        pair, applied, coin = choose_pair(u, layer, probs)
        sign = (coin < 0.5).astype(jnp.int32)
        chosen = jnp.asarray(index)[pair, layer]
        value = jnp.asarray(_narrow(AUTO_BINS, height, width))[chosen, sign, jnp.asarray(bins)[pair, layer]]
        return jnp.where(applied, jnp.asarray(kinds)[chosen], 0), value

    return pillow_ops.layered(5, 2, choose, fill=BLACK, interpolation=interpolation)


def _narrow(count: int, height: int, width: int) -> np.ndarray:
    """Arguments of RandAugment and AutoAugment, which have the same ranges, float32 (operation, sign, bin)."""
    bins = np.linspace(0.0, 1.0, count)
    signed = {name: bins * 0.9 for name in FACTORS} | {"ShearX": bins * 0.3, "ShearY": bins * 0.3}
    # Truncated to whole pixels, from float32 bins as in torch.
    for name, side in (("TranslateX", width), ("TranslateY", height)):
        signed[name] = np.trunc(np.linspace(0.0, np.float32(150.0 / 331.0 * side), count, dtype=np.float32))
    signed["Rotate"] = bins * 30.0
    return _table(signed, _unsigned(count, lowest_bits=4))


def _unsigned(count: int, lowest_bits: int) -> dict[str, np.ndarray]:
    """Arguments, at each bin, of operations without a sign."""
    posterize = 8 - np.round(np.arange(count) / ((count - 1) / (8 - lowest_bits)))
    return {"Posterize": posterize, "Solarize": np.linspace(255.0, 0.0, count)}


def _table(signed: dict[str, np.ndarray], unsigned: dict[str, np.ndarray]) -> np.ndarray:
    """Arguments of Pillow's operations, float32 (operation, sign, bin); 0 for operations without one."""
    count = len(unsigned["Solarize"])
    table = np.zeros((len(OPS), 2, count), np.float32)
    for i, name in enumerate(OPS):
        for s, sign in enumerate((1.0, -1.0)):
            table[i, s] = unsigned.get(name, sign * signed.get(name, np.zeros(count)) + (name in FACTORS))
    return table
