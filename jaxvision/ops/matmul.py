"""Matrix products of pixels or tokens with a weight, for CPUs: their weight's gradient in the faster of two orders."""

from __future__ import annotations

import jax
from jax import lax


@jax.custom_vjp
def product(x: jax.Array, weight: jax.Array) -> jax.Array:
    """``x @ weight``.

    Args:
      x: (..., I).
      weight: (I, O), of the same dtype.

    Returns:
      (..., O).
    """
    return x @ weight


def _forward(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(x, weight), (x, weight)


def _backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    return g @ weight.T, summed_products(x, g)


product.defvjp(_forward, _backward)


def summed_products(x: jax.Array, g: jax.Array) -> jax.Array:
    """The products of every channel of ``x`` (..., I) with every one of ``g`` (..., O), summed over the rest: (I, O).

    XLA's library of products takes 1.3 times as long where the result has more rows than columns, so the narrower
    factor comes first, if there are so many rows that turning the result costs less. What turns it must not be drawn
    into the product, which it would undo, nor into what uses it, which would turn it several times.
    """
    rows = (((0,), (0,)), ((), ()))
    x, g = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    if x.shape[1] <= g.shape[1] and x.shape[0] >= 2048:
        return lax.optimization_barrier(lax.dot_general(x, g, rows))
    return lax.dot_general(g, x, rows).T
