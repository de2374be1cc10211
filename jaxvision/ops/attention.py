"""Scaled dot-product attention."""

from __future__ import annotations

import functools

import jax

from jaxvision.ops.backend import operation


@operation
def dot_product_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, scale: float | None = None
) -> jax.Array:
    """``softmax(scale q k^T + bias) v`` within each set of T tokens, as ``jax.nn.dot_product_attention``.

    Args:
      q, k, v: of one shape, (N, T, heads, D) or (N, W, T, heads, D) with W windows.
      bias: added to the scores: (heads, T, T), or for each of W windows (W, heads, T, T).
      scale: of the scores; None for 1 / sqrt(D).

    Returns:
      Like ``q``.
    """
    attention = functools.partial(jax.nn.dot_product_attention, scale=scale)
    if bias is not None and bias.ndim == 4:
        # Each window has its own bias, the same for all images.
        return jax.vmap(attention, (0, 0, 0, None))(q, k, v, bias)
    flat = (part.reshape(-1, *part.shape[-3:]) for part in (q, k, v))
    return attention(*flat, bias=None if bias is None else bias[None]).reshape(q.shape)
