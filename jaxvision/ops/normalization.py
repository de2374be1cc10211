"""Layer normalisation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.ops.backend import operation
from jaxvision.ops.dtypes import DType, accumulator


@operation
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: DType) -> jax.Array:
    """``(x - mean) / sqrt(variance + eps) * scale + bias`` over the last axis, in float32 or wider (Ba et al. 2016).

    Args:
      x: (..., C).
      scale, bias: (C,).
      eps: added to the variance, which is the biased one.
      dtype: of the result.

    Returns:
      (..., C).
    """
    return normalize(x, scale, bias, eps, dtype)[0]


def normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: DType
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What :func:`layer_norm` returns, and each row's mean and 1 / sqrt(variance + eps), (..., 1).

    Two passes, over a row that is in registers: E[x^2] - E[x]^2 would lose digits in trained transformers, where some
    channels are far from the others.
    """
    wide = x.astype(accumulator(x.dtype))
    mean = jnp.mean(wide, -1, keepdims=True)
    centred = wide - mean
    inverse = lax.rsqrt(jnp.mean(jnp.square(centred), -1, keepdims=True) + eps)
    return (centred * inverse * scale + bias).astype(dtype), mean, inverse
