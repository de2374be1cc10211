"""The plain ViT of "Better plain ViT baselines for ImageNet-1k" (Beyer et al. 2022, arXiv 2205.01580).

Positions are fixed sines and cosines, the mean over tokens replaces the class token, and a tanh
layer precedes the classifier. Source: google-research/big_vision ``models/vit.py``. timm has no
such model; parameters are named as in its ``vision_transformer.py``.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.models import initializers as init
from jaxvision.models.attention import Attention
from jaxvision.models.classifier import Classifier, LayerGroups
from jaxvision.models.layers import Conv, LayerNorm, Linear, Mlp, drop_path, require_size
from jaxvision.models.registry import register
from jaxvision.ops.dtypes import DType
from jaxvision.ops.materialize import materialize_call


def sincos_positions(height: int, width: int, features: int) -> np.ndarray:
    """Position embedding of a grid: sines and cosines of x, then of y, with frequencies from 1 down to 1/10000.

    Args:
      height, width: of the grid, in patches.
      features: channels, a multiple of 4.

    Returns:
      (height * width, features), float32.
    """
    y, x = np.mgrid[:height, :width].reshape(2, -1, 1).astype(np.float32)
    omega = 10000.0 ** -(np.arange(features // 4) / (features // 4 - 1))
    waves = [wave(place * omega) for place in (x, y) for wave in (np.sin, np.cos)]
    return np.concatenate(waves, 1).astype(np.float32)


class Block(nn.Module):
    """Attention and an MLP with the tanh approximation of the GELU, each with a normalisation before it and a shortcut.

    Attributes:
      drop_path_rate: probability with which a sample skips each of the two branches in training.
    """

    heads: int
    drop_path_rate: float
    dtype: DType

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = functools.partial(LayerNorm, 1e-6, self.dtype)
        y = Attention(self.heads, self.dtype, weight_init=init.xavier_uniform, name="attn")(norm(name="norm1")(x))
        x = materialize_call(jnp.add, x, self._dropped(y, train))
        mlp = Mlp(4 * x.shape[-1], self.dtype, weight_init=init.xavier_uniform, approximate=True, name="mlp")
        return materialize_call(jnp.add, x, self._dropped(mlp(norm(name="norm2")(x)), train))

    def _dropped(self, y: jax.Array, train: bool) -> jax.Array:
        if train and self.drop_path_rate:
            return drop_path(y, self.drop_path_rate, self.make_rng("drop_path"))
        return y


class SimpleViT(Classifier):
    """Plain vision transformer over images whose sides are multiples of the patch; its maps are the blocks' outputs.

    Attributes:
      width: channels of a token.
      heads: attention heads of a block.
      depth: number of blocks.
      patch_size: side of a patch in pixels.
    """

    layer_groups = LayerGroups(stem="patch_embed", block=r"blocks\.(\d+)", neck="norm")
    attends = True
    in_timm = False

    width: int
    heads: int
    depth: int = 12
    patch_size: int = 16

    @property
    def num_features(self) -> int:
        return self.width

    @property
    def map_names(self) -> list[str]:
        return [f"blocks.{i}" for i in range(self.depth)]

    def body(self, x: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """See :class:`Classifier`."""
        require_size(x, at_least=self.patch_size, multiple=self.patch_size)
        x = Conv(
            self.width,
            self.patch_size,
            stride=self.patch_size,
            bias=True,
            dtype=self.dtype,
            weight_init=init.truncated_fan_in,
            bias_init=init.zeros,
            name="patch_embed.proj",
        )(x.astype(self.dtype))
        n, height, width, _ = x.shape
        x = x.reshape(n, height * width, self.width)
        x = x + jnp.asarray(sincos_positions(height, width, self.width), self.dtype)
        make_block = self.block_class(Block)
        maps = []
        for i, rate in enumerate(self.block_rates([self.depth])[0]):
            x = make_block(self.heads, rate, self.dtype, name=f"blocks.{i}")(x, train)
            maps.append(x.reshape(n, height, width, self.width))
        return maps, LayerNorm(1e-6, self.dtype, name="norm")(x)

    def head(self, x: jax.Array, train: bool, output: str) -> jax.Array:
        """See :class:`Classifier`."""
        x = jnp.mean(x, 1)
        linear = functools.partial(Linear, dtype=self.dtype, bias_init=init.zeros)
        x = nn.tanh(linear(self.width, weight_init=init.truncated_fan_in, name="pre_logits.fc")(x))
        if output == "embed":
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return linear(self.num_classes, weight_init=init.zeros, wide=True, name="head")(x)


# name -> keyword arguments of SimpleViT.
VARIANTS: dict[str, dict[str, Any]] = {
    "simple_vit_tiny_patch16_224": {"width": 192, "heads": 3},
    "simple_vit_small_patch16_224": {"width": 384, "heads": 6},
    "simple_vit_base_patch16_224": {"width": 768, "heads": 12},
}

register(SimpleViT, VARIANTS)
