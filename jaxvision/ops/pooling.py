"""Pooling of maps (N, H, W, C), in the fastest exact form per backend."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxvision.ops.backend import target
from jaxvision.ops.convolution import depthwise
from jaxvision.ops.dtypes import accumulator


def avg_pool_2x2(x: jax.Array) -> jax.Array:
    """2x2 average pooling, stride 2; a last odd row or column is averaged alone (torch: ceil mode, no pad count)."""
    _, height, width, _ = x.shape
    pads = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    if target() == "cpu":
        padded = jnp.pad(x, pads)
        total = sum(padded[:, i::2, j::2] for i in range(2) for j in range(2))
    else:
        total = lax.reduce_window(x, np.zeros((), x.dtype), lax.add, (1, 2, 2, 1), (1, 2, 2, 1), pads)
    rows, columns = (np.minimum(2, size - np.arange(0, size, 2)) for size in (height, width))
    return total * jnp.asarray(1 / (rows[:, None, None] * columns[:, None]), x.dtype)


def avg_pool_3x3(x: jax.Array) -> jax.Array:
    """3x3 average pooling, stride 2, padding 1; the padding counts (torch's default)."""
    if target() == "cpu":  # XLA's gradient of a window's sum takes ten times as long
        return depthwise(x, jnp.full((x.shape[-1], 3, 3), 1 / 9, accumulator(x.dtype)), 2, ((1, 1), (1, 1)))
    window, strides, pads = (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, np.zeros((), x.dtype), lax.add, window, strides, pads) * jnp.asarray(1 / 9, x.dtype)


def max_pool_3x3(x: jax.Array) -> jax.Array:
    """3x3 max pooling, stride 2, padding 1; among equal values the first has the gradient, as in torch."""
    return _max_pool_sliced(x) if target() == "cpu" else _max_pool_window(x)


def _max_pool_window(x: jax.Array) -> jax.Array:
    # A numpy scalar: JAX recognises the max monoid, and so its gradient, only from a constant.
    lowest = np.array(-np.inf, x.dtype)
    return lax.reduce_window(x, lowest, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))


def _max_pool_sliced(x: jax.Array) -> jax.Array:
    """The same as the largest of three slices, twice, on CPU a quarter of the time.

    Columns first: then the first row among equal rows, and in it the first column, are the window's first.
    """
    return _largest_of_three(_largest_of_three(x, 2), 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _largest_of_three(x: jax.Array, axis: int) -> jax.Array:
    """Max pooling along one axis: size 3, stride 2, padding 1.

    The windows at the ends have two places, and are computed apart: padding would copy the map first.
    """
    n = x.shape[axis]

    def largest(start: int, windows: int, size: int) -> jax.Array:
        stop = start + 2 * windows - 1
        return functools.reduce(jnp.maximum, [lax.slice_in_dim(x, start + i, stop + i, 2, axis) for i in range(size)])

    if n == 1:
        return x
    inside = (n - 2) // 2
    parts = [largest(0, 1, 2)]
    if inside:
        parts.append(largest(1, inside, 3))
    if n % 2:
        parts.append(largest(n - 2, 1, 2))
    return lax.concatenate(parts, axis)


def _largest_forward(x: jax.Array, axis: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _largest_of_three(x, axis)
    return y, (x, y)


def _largest_backward(axis: int, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
    """An even place is the middle of its window; an odd one the last of its window and the first of the next.

    Slices again: XLA's pair of reduce-window and scatter takes ten times as long.
    """
    x, y = saved
    pads = [(1, 0) if a == axis else (0, 0) for a in range(x.ndim)]
    padded, reach = jnp.pad(x, pads, constant_values=-np.inf), 2 * y.shape[axis] - 1
    before, middle = (lax.slice_in_dim(padded, i, i + reach, 2, axis) for i in range(2))
    is_first = before == y
    is_middle = ~is_first & (middle == y)
    to_first = jnp.where(is_first, g, 0)
    shift = [(-1, 1, 0) if a == axis else (0, 0, 0) for a in range(g.ndim)]
    to_next = lax.pad(to_first, jnp.zeros((), g.dtype), shift)
    places = jnp.stack([jnp.where(is_middle, g, 0), jnp.where(is_first | is_middle, 0, g) + to_next], axis + 1)
    shape = [*y.shape[:axis], -1, *y.shape[axis + 1 :]]
    return (lax.slice_in_dim(places.reshape(shape), 0, x.shape[axis], axis=axis),)


_largest_of_three.defvjp(_largest_forward, _largest_backward)


def global_avg_pool(x: jax.Array) -> jax.Array:
    """Mean over height and width, summed in float32: (N, H, W, C) to (N, C) of ``x``'s dtype."""
    if target() != "cpu":
        return jnp.mean(x, axis=(1, 2), dtype=accumulator(x.dtype)).astype(x.dtype)
    # As a product, which there is five times as fast as XLA's reduction over inner axes.
    n, height, width, channels = x.shape
    share = jnp.full((n, 1, height * width), 1 / (height * width), accumulator(x.dtype))
    pixels = x.reshape(n, height * width, channels).astype(share.dtype)
    return lax.dot_general(share, pixels, (((2,), (1,)), ((0,), (0,))))[:, 0].astype(x.dtype)
