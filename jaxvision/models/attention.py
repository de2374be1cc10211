"""Multi-head self-attention over tokens, and the tables that Swin's windows add to it."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.models import initializers as init
from jaxvision.models.layers import Linear, Projections
from jaxvision.ops.backend import target
from jaxvision.ops.dtypes import DType, accumulator


def attend(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, scale: float | None = None) -> jax.Array:
    """``softmax(scale q k^T + bias) v`` within the token sets of (N, T, heads, D) or (N, W, T, heads, D).

    ``jax.nn.dot_product_attention``, or on a CPU a form of it that is faster there (docs/performance.md).

    Args:
      q, k, v: of one shape.
      bias: added to the scores: (heads, T, T), or for each of W windows (W, heads, T, T).
      scale: of the scores; None for 1 / sqrt(D).

    Returns:
      Like ``q``.
    """
    if target() == "cpu":
        return _heads_first(q, k, v, bias, q.shape[-1] ** -0.5 if scale is None else scale)
    attention = functools.partial(jax.nn.dot_product_attention, scale=scale)
    if bias is not None and bias.ndim == 4:
        # Each window has its own bias, the same for all images.
        return jax.vmap(attention, (0, 0, 0, None))(q, k, v, bias)
    flat = (part.reshape(-1, *part.shape[-3:]) for part in (q, k, v))
    return attention(*flat, bias=None if bias is None else bias[None]).reshape(q.shape)


def _heads_first(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, scale: float) -> jax.Array:
    """Attention whose maps are brought into the products' order, and whose sums divide the D results, not T weights."""
    wide = accumulator(q.dtype)
    q, k, v = (jnp.swapaxes(part, -3, -2) for part in (q * scale, k, v))
    scores = jnp.einsum("...td,...sd->...ts", q, k, preferred_element_type=wide)
    if bias is not None:
        scores = scores + bias
    weights = jnp.exp(scores - lax.stop_gradient(jnp.max(scores, -1, keepdims=True)))
    out = jnp.einsum("...ts,...sd->...td", weights.astype(v.dtype), v, preferred_element_type=wide)
    out = out / jnp.sum(weights, -1, keepdims=True)
    return jnp.swapaxes(out, -3, -2).astype(v.dtype)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017); see :func:`attend`.

    Attributes:
      heads: the width is divided among them.
      weight_init: of the two layers; their biases start at zero.
    """

    heads: int
    dtype: DType = jnp.float32
    weight_init: init.Initializer = init.truncated_normal(0.02)

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array | None = None) -> jax.Array:
        """Attends within each of the last-but-one axis' token sets.

        Args:
          x: (N, T, C), or (N, W, T, C) with W windows.
          bias: added to the scores: (heads, T, T), or (W, heads, T, T).

        Returns:
          Like ``x``.
        """
        width = x.shape[-1]
        initializers = {"weight_init": self.weight_init, "bias_init": init.zeros}
        qkv = Projections(width, 3, self.dtype, **initializers, name="qkv")(x)
        q, k, v = (part.reshape(*x.shape[:-1], self.heads, width // self.heads) for part in qkv)
        return Linear(width, self.dtype, **initializers, name="proj")(attend(q, k, v, bias).reshape(x.shape))


def relative_position_bias(table: jax.Array, window: tuple[int, int]) -> jax.Array:
    """Swin's bias (Liu et al. 2021, arXiv 2103.14030): entry (i, j) depends on the offset between two positions.

    Built from slices instead of an index gather: the gradient is then sums of slices, and
    not a scatter, which is slow and not reproducible on GPU.

    Args:
      table: ((2H - 1) (2W - 1), heads), a row per offset.
      window: (H, W).

    Returns:
      (heads, H W, H W).
    """
    height, width = window
    flipped = table.reshape(2 * height - 1, 2 * width - 1, -1)[::-1, ::-1]
    rows = jnp.stack([flipped[height - 1 - i : 2 * height - 1 - i] for i in range(height)])
    both = jnp.stack([rows[:, :, width - 1 - j : 2 * width - 1 - j] for j in range(width)], 1)
    # (row, column, other row, other column, heads)
    return both.transpose(4, 0, 1, 2, 3).reshape(-1, height * width, height * width)
