"""Matrix multiplications for ONNX."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.ops.dtypes import DType
from jaxvision.ops.matmul import linear


@linear.register("onnx")
def matmul_of_transposed(x: jax.Array, weight: jax.Array, bias: jax.Array | None, dtype: DType) -> jax.Array:
    """``x @ weight.T + bias`` with the weight transposed beforehand.

    Replaces: a matmul over the last axis of both, which jax2onnx writes as an Einsum, and ONNX Runtime does not fuse.
    Chosen: always.
    """
    with jax.ensure_compile_time_eval():
        weight = weight.astype(x.dtype).T
    y = jnp.matmul(x, weight, preferred_element_type=dtype)
    return y if bias is None else y + bias.astype(dtype)
