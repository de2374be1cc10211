"""ResNeSt's AutoAugment: on the device, and on the host, where ResNeSt's code applies it to the whole image.

Source: zhanghang1989/ResNeSt ``resnest/gluon/transforms.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

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


def _shear(image: Image.Image, value: float) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, (1, value, 0, 0, 1, 0), resample=Image.Resampling.BICUBIC
    )


# Pillow's operations with the arguments of :func:`argument`; geometry fills with black.
PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "ShearX": _shear,
    "Rotate": lambda image, degrees: image.rotate(degrees),
    "Solarize": lambda image, threshold: ImageOps.solarize(image, int(threshold)),
    "Posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "Contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "Color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "Sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Invert": lambda image, _: ImageOps.invert(image),
}


def autoaugment_on_host(image: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """ResNeSt's AutoAugment by Pillow, of an image of any size.

    Args:
      image: uint8 (H, W, 3).
      uniforms: (5,) in [0, 1), as in :func:`autoaugment.choose_pair`.

    Returns:
      uint8, like ``image``; the same array where no operation is applied.
    """
    picture: Image.Image | None = None
    for layer, (name, prob, level) in enumerate(PAIRS["resnest"][int(uniforms[0] * len(PAIRS["resnest"]))]):
        applied, coin = uniforms[1 + 2 * layer] < prob, uniforms[2 + 2 * layer]
        if applied:
            value = argument(name, level)
            picture = Image.fromarray(np.ascontiguousarray(image)) if picture is None else picture
            picture = PILLOW[name](picture, -value if name in SIGNED and coin < 0.5 else value)
    return image if picture is None else np.asarray(picture)
