"""RandAugment and AutoAugment with TensorFlow's operations, as tensorflow/tpu's EfficientNet code computes them.

Source: tensorflow/tpu ``models/official/efficientnet/autoaugment.py``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augment import tensorflow_ops
from jaxvision.augment.autoaugment import PAIRS, choose_pair, pair_tables
from jaxvision.augment.stage import Stage

UNIFORMS = 4  # of RandAugment, per layer and image: operation, sign, and two for the centre of Cutout


def randaugment(layers: int, magnitude: float, *, translate_const: float = 100.0, cutout_const: float = 40.0) -> Stage:
    """RandAugment (Cubuk et al. 2019, arXiv 1909.13719); every chosen operation is applied.

    Args:
      layers: N, operations per image, chosen with replacement from :data:`tensorflow_ops.OPS`.
      magnitude: M, of 10, not clamped.
      translate_const: pixels of a translation at M = 10 (100 in tensorflow/tpu, 10 in Model Garden).
      cutout_const: half the side of the cutout, in pixels, at M = 10.
    """
    ops = tensorflow_ops.OPS
    table = np.array(
        [tensorflow_ops.argument(name, magnitude, translate_const, cutout_const) for name in ops], np.float32
    )

    def apply(images: jax.Array, uniforms: jax.Array) -> jax.Array:
        for layer in range(layers):
            u = uniforms[:, layer * UNIFORMS : (layer + 1) * UNIFORMS]
            index = (u[:, 0] * len(ops)).astype(jnp.int32)
            value = tensorflow_ops.signed_value(index, jnp.asarray(table)[index], u[:, 1])
            images = tensorflow_ops.apply(images, index, value, u[:, 2:4])
        return images

    return Stage(layers * UNIFORMS, apply)


def autoaugment(*, translate_const: float = 250.0, cutout_const: float = 100.0) -> Stage:
    """AutoAugment's "v0", as EfficientNet and EfficientNetV2-B use it: one of 25 pairs of operations per image.

    Args:
      translate_const, cutout_const: as in :func:`randaugment`.
    """
    index, probs, _ = pair_tables("v0", tensorflow_ops.OPS)
    values = np.array(
        [
            [tensorflow_ops.argument(op, level, translate_const, cutout_const) for op, _, level in pair]
            for pair in PAIRS["v0"]
        ],
        np.float32,
    )

    def apply(images: jax.Array, u: jax.Array) -> jax.Array:
        for layer in range(2):
            pair, applied, coin = choose_pair(u, layer, probs)
            op = jnp.asarray(index)[pair, layer]
            value = tensorflow_ops.signed_value(op, jnp.asarray(values)[pair, layer], coin)
            # v0 has no Cutout, so its centre is never used.
            images = tensorflow_ops.apply(images, jnp.where(applied, op, -1), value, jnp.zeros((len(u), 2)))
        return images

    return Stage(5, apply)
