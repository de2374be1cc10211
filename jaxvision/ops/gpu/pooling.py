"""Max pooling whose gradient knows where the maxima were."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.ops.pooling import max_pool_3x3

WINDOW, STRIDE, PADDING = 3, 2, 1


@max_pool_3x3.register("gpu")
@jax.custom_vjp
def max_pool_of_kept_places(x: jax.Array) -> jax.Array:
    """3x3 max pooling, stride 2, padding 1, which keeps an int8 for each maximum: its place in the window.

    Replaces: XLA's gradient, which compares all windows again and adds up in a scatter. Among equal values the first
    has the gradient; NaN is the maximum. Only reverse mode, as :mod:`jaxvision.ops.gpu.normalization`.
    Gain: ResNet-50's training program moves 372.7 MB an image, before 383.0
    (benchmarks/results/gpu_program_h200_2026-11-26.md); not timed yet.
    Chosen: always.
    """
    return max_pool_3x3.portable(x)


def _forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    padded = lax.pad(x, jnp.array(-jnp.inf, x.dtype), ((0, 0, 0), *(((PADDING, PADDING, 0),) * 2), (0, 0, 0)))
    height, width = (-(-side // STRIDE) for side in x.shape[1:3])
    best, place = None, None
    for i in range(WINDOW * WINDOW):
        row, column = divmod(i, WINDOW)
        values = padded[
            :, row : row + STRIDE * (height - 1) + 1 : STRIDE, column : column + STRIDE * (width - 1) + 1 : STRIDE
        ]
        if best is None:
            best, place = values, jnp.zeros(values.shape, jnp.int8)
        else:
            larger = (values > best) | jnp.isnan(values)
            best, place = jnp.where(larger, values, best), jnp.where(larger, jnp.int8(i), place)
    # The gradient needs no pixels of x; an array without elements carries its height and width.
    return best, (place, jnp.zeros((0, *x.shape[1:3], 0), jnp.int8))


def _backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    place, empty = kept
    sides, zero = empty.shape[1:3], jnp.zeros((), gradient.dtype)
    total = None
    for i in range(WINDOW * WINDOW):
        edges = [
            # Rows (and columns) of gradient are put STRIDE apart, where the window's entry i was read.
            (start - PADDING, side - (start - PADDING) - (STRIDE * (count - 1) + 1), STRIDE - 1)
            for start, side, count in zip(divmod(i, WINDOW), sides, gradient.shape[1:3], strict=True)
        ]
        own = jnp.where(place == i, gradient, zero)
        spread = lax.pad(own, zero, ((0, 0, 0), *edges, (0, 0, 0)))
        total = spread if total is None else total + spread
    return (total,)


max_pool_of_kept_places.defvjp(_forward, _backward)
