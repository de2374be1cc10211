"""The dtypes that layers compute in."""

from __future__ import annotations

import jax.numpy as jnp

DType = jnp.dtype | type


def accumulator(dtype: DType) -> DType:
    """float32, or wider where the computation is wider: the type of sums, statistics and logits."""
    return jnp.promote_types(dtype, jnp.float32)
