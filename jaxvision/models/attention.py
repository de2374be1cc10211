"""Multi-head self-attention over tokens, and the tables that Swin's windows add to it."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models import initializers as init
from jaxvision.models.layers import Linear, Projections
from jaxvision.ops.attention import dot_product_attention
from jaxvision.ops.dtypes import DType


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017); see :func:`~jaxvision.ops.attention.dot_product_attention`.

    Attributes:
      heads: how many; each has C / heads channels.
      weight_init: of the two layers; their biases start at zero.
    """

    heads: int
    dtype: DType = jnp.float32
    weight_init: init.Initializer = init.truncated_normal(0.02)

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array | None = None) -> jax.Array:
        """Attention among the tokens of each image, or of each window.

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
        return Linear(width, self.dtype, **initializers, name="proj")(
            dot_product_attention(q, k, v, bias).reshape(x.shape)
        )


def relative_position_bias(table: jax.Array, window: tuple[int, int]) -> jax.Array:
    """Swin's bias (Liu et al. 2021, arXiv 2103.14030): entry (i, j) depends on the offset between two positions.

    Built from slices and not by a gather: the gradient of slices is a sum, that of a gather a
    scatter, which on a GPU is slow and not reproducible.

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
