"""AutoAugment (Cubuk et al. 2018, arXiv 1805.09501) as timm and as TensorFlow's EfficientNet code compute it.

Two learned policies for ImageNet: that of the paper ("original"), and that of tensorflow/tpu's
EfficientNet code ("v0"), each 25 pairs of (operation, probability, magnitude of 10).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augment import pil
from jaxvision.augment.policies import TIMM_OPS, Policy, Transform, mean_fill, timm_values
from jaxvision.augment.randaugment import TF_OPS, tf_apply, tf_argument, tf_signed

Operation = tuple[str, float, int]

POLICIES: dict[str, tuple[tuple[Operation, Operation], ...]] = {
    "original": (
        (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
        (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
        (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
        (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
        (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
        (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
        (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
        (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
        (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
        (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
        (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
        (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
        (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    ),
    "v0": (
        (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
        (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
        (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
        (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
        (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
        (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
        (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
        (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
        (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
        (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
        (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
        (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
        (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
        (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
        (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
        (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9)),
        (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
        (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
        (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
        (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
        (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
        (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
        (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
        (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
        (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
    ),
}


def pair_tables(name: str, operations: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A policy's indices into ``operations``, probabilities and magnitudes, each (pairs, 2)."""
    pairs = POLICIES[name]
    index = np.array([[operations.index(op) for op, _, _ in pair] for pair in pairs])
    probs = np.array([[prob for _, prob, _ in pair] for pair in pairs], np.float32)
    return index, probs, np.array([[level for _, _, level in pair] for pair in pairs])


def draw_pair(u: jax.Array, layer: int, probs: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The pair of each image, whether its operation of this layer is applied, and the uniform of its sign.

    ``u`` is (B, 5): the pair, and for each layer application and sign.
    """
    pair = (u[:, 0] * len(probs)).astype(jnp.int32)
    return pair, u[:, 1 + 2 * layer] < jnp.asarray(probs)[pair, layer], u[:, 2 + 2 * layer]


def timm_autoaugment(name: str, *, mean: tuple[float, float, float], interpolation: str) -> Policy:
    """One of 25 pairs of operations per image, each applied with its own probability at its own magnitude.

    In "original" posterize keeps 4 to 8 bits, in "v0" 0 to 4, as in the two sources; translations
    are relative to the side (timm), where tensorflow/tpu moves up to 250 pixels.

    Args:
      name: of :data:`POLICIES`.
      mean: of the normalisation, for the fill.
      interpolation: of the geometry.
    """
    table, probs, levels = pair_tables(name, TIMM_OPS)
    kinds = np.array([pil.KINDS.index(op) for op in TIMM_OPS])

    def draw(u: jax.Array, layer: int, height: int, width: int) -> tuple[jax.Array, jax.Array]:
        pair, applied, coin = draw_pair(u, layer, probs)
        index = jnp.asarray(table)[pair, layer]
        level = jnp.asarray(levels, jnp.float32)[pair, layer]
        values = timm_values(level, coin < 0.5, False, height, width)
        if name == "original":
            values["Posterize"] = values["Posterize"] + 4
        value = jnp.take_along_axis(jnp.stack([values[op] for op in TIMM_OPS], 1), index[:, None], 1)[:, 0]
        return jnp.where(applied, jnp.asarray(kinds)[index], 0), value

    return Policy(5, 2, draw, mean_fill(mean), interpolation)


def tf_autoaugment(*, translate_const: float = 250.0, cutout_const: float = 100.0) -> Transform:
    """The "v0" policy with TensorFlow's operations (nearest, gray fill, the quirks of :mod:`.randaugment`).

    Source: tensorflow/tpu ``models/official/efficientnet/autoaugment.py``, as EfficientNet and EfficientNetV2-B use it.

    Args:
      translate_const, cutout_const: as in :func:`randaugment.tf_randaugment`.
    """
    index, probs, _ = pair_tables("v0", TF_OPS)
    values = np.array(
        [[tf_argument(op, level, translate_const, cutout_const) for op, _, level in pair] for pair in POLICIES["v0"]],
        np.float32,
    )

    def apply(images: jax.Array, u: jax.Array) -> jax.Array:
        for layer in range(2):
            pair, applied, coin = draw_pair(u, layer, probs)
            op = jnp.asarray(index)[pair, layer]
            value = tf_signed(op, jnp.asarray(values)[pair, layer], coin)
            # v0 has no cutout, so its centre is never used.
            images = tf_apply(images, jnp.where(applied, op, -1), value, jnp.zeros((len(u), 2)))
        return images

    return Transform(5, apply)
