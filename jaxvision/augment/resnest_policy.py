"""ResNeSt's AutoAugment.

Source: zhanghang1989/ResNeSt ``resnest/gluon/transforms.py``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augment import pillow_ops
from jaxvision.augment.autoaugment import PAIRS, choose_pair, pair_tables
from jaxvision.augment.stage import Stage

BLACK = (0, 0, 0)
SIGNED = ("Rotate", "ShearX")


def argument(name: str, level: int) -> float:
    """The argument of an operation for :func:`pillow_ops.apply` at a magnitude of 10, without its sign.

    Posterize and Solarize grow stronger with the magnitude, unlike timm's "original": 4 to 0 bits, thresholds from 256
    to 0.
    """
    factor = level * 0.18 + 0.1
    return {
        "ShearX": level * 0.03,
        "Rotate": int(level * 30 / 10),
        "Solarize": 256 - int(level * 256 / 10),
        "Posterize": 4 - int(level * 4 / 10),
        "Contrast": factor,
        "Color": factor,
        "Sharpness": factor,
    }.get(name, 0.0)


def autoaugment() -> Stage:
    """ResNeSt's AutoAugment: one of 25 pairs of operations per image, each applied with its own probability.

    The fill is black; Rotate takes the nearest pixel, shears are bicubic.
    """
    index, probs, _ = pair_tables("resnest", pillow_ops.KINDS)
    values = np.array([[argument(op, level) for op, _, level in pair] for pair in PAIRS["resnest"]], np.float32)
    signed = np.array([[op in SIGNED for op, _, _ in pair] for pair in PAIRS["resnest"]])

    def choose(u: jax.Array, layer: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        pair, applied, coin = choose_pair(u, layer, probs)
        value = jnp.asarray(values)[pair, layer]
        value = jnp.where(jnp.asarray(signed)[pair, layer] & (coin < 0.5), -value, value)
        return jnp.where(applied, jnp.asarray(index)[pair, layer], 0), value

    return pillow_ops.layered(5, 2, choose, fill=BLACK, interpolation="bicubic", rotation="nearest")
