"""Pooling of maps (N, H, W, C)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxvision.ops.backend import operation
from jaxvision.ops.dtypes import accumulator


def avg_pool_2x2(x: jax.Array) -> jax.Array:
    """2x2 average pooling, stride 2; the last row or column of an odd size is averaged alone.

    As torch with ``ceil_mode=True, count_include_pad=False``.
    """
    _, height, width, _ = x.shape
    total = sum_pool_2x2(x)
    rows, columns = (np.minimum(2, size - np.arange(0, size, 2)) for size in (height, width))
    return total * jnp.asarray(1 / (rows[:, None, None] * columns[:, None]), x.dtype)


@operation
def sum_pool_2x2(x: jax.Array) -> jax.Array:
    """The sums of 2x2 windows, stride 2, with zeros behind the last row or column of an odd size."""
    _, height, width, _ = x.shape
    window, pads = (1, 2, 2, 1), ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, window, window, pads)


@operation
def avg_pool_3x3(x: jax.Array) -> jax.Array:
    """3x3 average pooling, stride 2, padding 1; the padding counts (torch's default)."""
    window, strides, pads = (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, window, strides, pads) * jnp.asarray(1 / 9, x.dtype)


@operation
def max_pool_3x3(x: jax.Array) -> jax.Array:
    """3x3 max pooling, stride 2, padding 1; among equal values the first has the gradient, as in torch."""
    # A numpy scalar: JAX recognises the maximum, and so its gradient, only from a constant.
    lowest = np.array(-np.inf, x.dtype)
    return lax.reduce_window(x, lowest, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))


@operation
def global_avg_pool(x: jax.Array) -> jax.Array:
    """Mean over height and width, summed in float32: (N, H, W, C) to (N, C) of ``x``'s dtype."""
    return jnp.mean(x, axis=(1, 2), dtype=accumulator(x.dtype)).astype(x.dtype)
