"""The dtypes that layers compute in."""

from __future__ import annotations

import jax.numpy as jnp

from jaxvision.ops.backend import operation

DType = jnp.dtype | type


def accumulator(dtype: DType) -> DType:
    """float32, or wider where the computation is wider: the type of sums, statistics and logits."""
    return jnp.promote_types(dtype, jnp.float32)


@operation
def default_dtype() -> DType:
    """What a network computes in unless its user says otherwise: bfloat16, on a CPU float32.

    CPUs without bfloat16 arithmetic convert every value twice.
    """
    return jnp.bfloat16


@default_dtype.register("cpu")
def _default_dtype_of_cpus() -> DType:
    return jnp.float32
