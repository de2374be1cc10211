"""Pooling of maps (N, H, W, C) on a CPU, where XLA's loops over windows are slow."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxvision.ops.cpu.depthwise import depthwise
from jaxvision.ops.dtypes import accumulator
from jaxvision.ops.pooling import avg_pool_3x3, global_avg_pool, max_pool_3x3, sum_pool_2x2


@sum_pool_2x2.register("cpu")
def sum_of_slices(x: jax.Array) -> jax.Array:
    """2x2 sums of four strided slices.

    Replaces: XLA's loop over windows.
    Gain: not measured alone.
    Chosen: always.
    """
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    return sum(padded[:, i::2, j::2] for i in range(2) for j in range(2))


@avg_pool_3x3.register("cpu")
def depthwise_avg_pool(x: jax.Array) -> jax.Array:
    """3x3 averages as a depthwise convolution with equal weights.

    Replaces: XLA's loop over windows and its gradient.
    Gain: the gradient takes a tenth of the time (56x56 pixels, 128 channels).
    Chosen: always.
    """
    return depthwise(x, jnp.full((x.shape[-1], 3, 3), 1 / 9, accumulator(x.dtype)), 2, ((1, 1), (1, 1)))


@global_avg_pool.register("cpu")
def matmul_avg_pool(x: jax.Array) -> jax.Array:
    """Means over height and width by matmuls with ones, each over a few pixels.

    Levels of sums: a matmul adds its pixels one after the other, and over the 12,544 of a 112x112 map that loses 30
    times as much as torch's sum, which a squeeze-and-excitation passes on.

    Replaces: XLA's reduction over inner axes.
    Gain: 1.4 to 5 times as fast in inference; none in training, where YNNPACK computes reductions.
    Chosen: always.
    """
    return _means(x)


@jax.custom_vjp
def _means(x: jax.Array) -> jax.Array:
    n, height, width, channels = x.shape
    left, sums = height * width, x.astype(accumulator(x.dtype))
    while left > 1:
        pixels = _pixels_at_once(left)
        left //= pixels
        ones = jnp.ones((n * left, 1, pixels), sums.dtype)
        sums = lax.dot_general(ones, sums.reshape(n * left, pixels, channels), (((2,), (1,)), ((0,), (0,))))
    return (sums.reshape(n, channels) * (1 / (height * width))).astype(x.dtype)


def _pixels_at_once(count: int) -> int:
    """The largest divisor of ``count``, two or more, that is at most 32; the smallest where all are larger."""
    divisors = [i for i in range(2, count + 1) if count % i == 0]
    return max([i for i in divisors if i <= 32], default=divisors[0])


def _means_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _means(x), x


def _means_backward(x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    """Equal shares; through the sums, level by level, it would take up to 1.7 times as long."""
    share = (g.astype(accumulator(g.dtype)) * (1 / (x.shape[1] * x.shape[2]))).astype(x.dtype)
    return (jnp.broadcast_to(share[:, None, None], x.shape),)


_means.defvjp(_means_forward, _means_backward)


@max_pool_3x3.register("cpu")
def max_of_slices(x: jax.Array) -> jax.Array:
    """3x3 maxima as the largest of three slices, along each axis.

    Columns first: then the first row among equal rows, and in it the first column, are the window's first.

    Replaces: XLA's loop over windows; its gradient, a pair of reduce-window and scatter.
    Gain: a quarter of the time forward, a tenth backward.
    Chosen: always.
    """
    return _largest_of_three(_largest_of_three(x, 2), 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _largest_of_three(x: jax.Array, axis: int) -> jax.Array:
    """Max pooling along one axis: size 3, stride 2, padding 1.

    The first window, and the last of an odd size, have two places and are computed separately: padding would copy the
    map.
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
    """The gradient: even places are the middle of a window, odd ones the end of one and the start of the next."""
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
