"""Scaled dot-product attention for ONNX."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.ops.attention import dot_product_attention


@dot_product_attention.register("onnx")
def attention_by_matmul(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, scale: float | None = None
) -> jax.Array:
    """Attention as two matmuls of (..., heads, T, D) with all leading axes kept.

    Replaces: ``jax.nn.dot_product_attention`` of images times windows, an axis whose length jax2onnx cannot express
    where the number of images is symbolic.
    Chosen: always.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = (jnp.swapaxes(part, -3, -2) for part in (q * scale, k, v))
    scores = jnp.matmul(q, jnp.swapaxes(k, -1, -2))
    if bias is not None:
        scores = scores + bias
    return jnp.swapaxes(jnp.matmul(jax.nn.softmax(scores, -1), v), -3, -2)
