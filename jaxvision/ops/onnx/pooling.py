"""Pooling for ONNX.

jax2onnx writes JAX's own windows over all four axes, for which ONNX Runtime has no kernel.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.ops.convolution import Pads
from jaxvision.ops.onnx.convolution import convolution_of_oihw
from jaxvision.ops.pooling import avg_pool_3x3, max_pool_3x3, sum_pool_2x2


@max_pool_3x3.register("onnx")
def max_pool(x: jax.Array) -> jax.Array:
    """3x3 max pooling, stride 2, padding 1; jax2onnx knows flax's function, without padding. Chosen: always."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    return nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding="VALID")


@avg_pool_3x3.register("onnx")
def avg_pool(x: jax.Array) -> jax.Array:
    """3x3 average pooling, stride 2, padding 1, which counts, as a depthwise convolution. Chosen: always."""
    return _weighted_sums(x, 3, 1 / 9, ((1, 1), (1, 1)))


@sum_pool_2x2.register("onnx")
def sum_pool(x: jax.Array) -> jax.Array:
    """The sums of 2x2 windows, zeros behind an odd size, as a depthwise convolution. Chosen: always."""
    _, height, width, _ = x.shape
    return _weighted_sums(x, 2, 1.0, ((0, height % 2), (0, width % 2)))


def _weighted_sums(x: jax.Array, side: int, weight: float, pads: Pads) -> jax.Array:
    channels = x.shape[-1]
    with jax.ensure_compile_time_eval():
        kernel = jnp.full((channels, side, side, 1), weight, x.dtype)
    return convolution_of_oihw(x, kernel, stride=2, pads=pads, groups=channels)
