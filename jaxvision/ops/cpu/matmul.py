"""Matrix multiplications on a CPU, with the weight's gradient in the faster of two orders."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.ops.dtypes import DType, accumulator
from jaxvision.ops.matmul import linear


@linear.register("cpu")
def linear_in_float32(x: jax.Array, weight: jax.Array, bias: jax.Array | None, dtype: DType) -> jax.Array:
    """``x @ weight.T + bias``, summed in float32 or wider.

    Replaces: a matmul in the dtype of the result, whose weight is transposed as it is read. On CPUs only matmuls with
    float32 results reach the matrix unit, and a few float32 rows are multiplied five times as fast where
    ``jaxvision.compile`` has transposed the weight once.
    Gain: the five times above; for the weight's gradient see :func:`transposed_matmul`.
    Chosen: always; :func:`matmul` for float32.
    """
    total = accumulator(x.dtype)
    weight = weight.astype(x.dtype)
    if x.dtype == jnp.float32:
        y = matmul(x, weight.T)
    else:
        y = lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())), preferred_element_type=total)
    if bias is not None:
        y = y + bias.astype(total)
    return y.astype(dtype)


@jax.custom_vjp
def matmul(x: jax.Array, weight: jax.Array) -> jax.Array:
    """``x @ weight``, whose weight's gradient is :func:`transposed_matmul`.

    Args:
      x: (..., I).
      weight: (I, O), of the same dtype.

    Returns:
      (..., O).
    """
    return x @ weight


def _forward(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return matmul(x, weight), (x, weight)


def _backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    return g @ weight.T, transposed_matmul(x, g)


matmul.defvjp(_forward, _backward)


def transposed_matmul(x: jax.Array, g: jax.Array) -> jax.Array:
    """``x.T @ g`` over all rows of ``x`` (..., I) and ``g`` (..., O), as (I, O): the gradient of a matmul's weight.

    Replaces: the order of the factors that JAX's derivative has. XLA's matmul library takes 1.3 times as long where the
    result has more rows than columns.
    Gain: with the other gradients that were changed at the same time, training ResNet-50-D 0.80 of timm's best, before
    0.68 (benchmarks/journal.md).
    Chosen: always; the narrower factor comes first if there are so many rows that transposing the result costs less.
    """
    rows = (((0,), (0,)), ((), ()))
    x, g = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    if x.shape[1] <= g.shape[1] and x.shape[0] >= 2048:
        # Without the barrier XLA would fuse a transposition that follows into the matmul, which exchanges the factors
        # again, or into each user of the result.
        return lax.optimization_barrier(lax.dot_general(x, g, rows))
    return lax.dot_general(g, x, rows).T
