"""Vision transformers: ViT, DeiT (also distilled) and DeiT-III.

Sources: Dosovitskiy et al. 2020 (arXiv 2010.11929); Touvron et al. 2020 (2012.12877) for
DeiT and its distillation token; Touvron et al. 2022 (2204.07118) for DeiT-III. Names and
structure follow timm's ``vision_transformer.py`` and ``deit.py``.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models import initializers as init
from jaxvision.models.attention import Attention
from jaxvision.models.layers import Conv, LayerNorm, Linear, Mlp, drop_path, linear_rates, require_size
from jaxvision.models.registry import register
from jaxvision.ops.dtypes import DType
from jaxvision.ops.materialize import materialize_call

_NORMAL = init.truncated_normal(0.02)


class Block(nn.Module):
    """Attention and an MLP, each normalised before, scaled (DeiT-III) and added after.

    Attributes:
      layer_scale: initial value of both branches' scale per channel; None for none.
      drop_path_rate: probability with which a sample skips each of the two branches in training.
    """

    heads: int
    layer_scale: float | None
    drop_path_rate: float
    dtype: DType

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = functools.partial(LayerNorm, 1e-6, self.dtype)
        y = Attention(self.heads, self.dtype, name="attn")(norm(name="norm1")(x))
        x = materialize_call(jnp.add, x, self._branch(y, "ls1", train))
        y = Mlp(4 * x.shape[-1], self.dtype, name="mlp")(norm(name="norm2")(x))
        return materialize_call(jnp.add, x, self._branch(y, "ls2", train))

    def _branch(self, y: jax.Array, name: str, train: bool) -> jax.Array:
        if self.layer_scale is not None:
            initializer = init.constant(self.layer_scale)
            y = y * self.param(f"{name}.gamma", init.declare(initializer), (y.shape[-1],)).astype(self.dtype)
        if train and self.drop_path_rate:
            y = drop_path(y, self.drop_path_rate, self.make_rng("drop_path"))
        return y


class ViT(nn.Module):
    """Vision transformer over NHWC images of one size.

    Attributes:
      width, depth, heads: of the blocks.
      patch_size: pixels of a patch's side.
      image_size: (height, width), multiples of the patch.
      class_token: pool by a token of its own, and not by the mean.
      distilled: a second token with a second classifier, whose logits are averaged (DeiT).
      embed_class: the position table has entries for these tokens, too.
      layer_scale: see :class:`Block`.
      bn_momentum, bn_groups: accepted for a uniform interface; there is no batch normalisation.
      remat: recompute each block's activations in the backward pass to save memory.
    """

    attends: ClassVar[bool] = True  # whether attention is most of its work
    width: int
    heads: int
    depth: int = 12
    patch_size: int = 16
    image_size: tuple[int, int] = (224, 224)
    class_token: bool = True
    distilled: bool = False
    embed_class: bool = True
    layer_scale: float | None = None
    num_classes: int = 1000
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    bn_momentum: float = 0.1
    bn_groups: int = 1
    remat: bool = False
    dtype: DType = jnp.float32

    @property
    def num_features(self) -> int:
        return self.width

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def prefix_tokens(self) -> int:
        """Class and distillation tokens."""
        return self.class_token + self.distilled

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, output: str = "logits") -> Any:
        """Runs the network.

        Args:
          x: (N, *image_size, C) normalised images.
          train: dropout and stochastic depth. Needs the rngs "dropout" and "drop_path"
            where their rates are not zero.
          output: "logits", "embed", "features", or "heads".

        Returns:
          float32 logits (N, num_classes); or those of each classifier ("heads"); or the pooled, normalised
          (N, num_features); or the list of every block's output as maps (N, *grid, width), without the prefix tokens.
        """
        require_size(x, at_least=self.patch_size, exactly=self.image_size, multiple=self.patch_size)
        x = self._tokens(x)
        make_block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        maps = []
        for i, rate in enumerate(linear_rates(self.drop_path_rate, [self.depth])[0]):
            x = make_block(self.heads, self.layer_scale, rate, self.dtype, name=f"blocks.{i}")(x, train)
            maps.append(x[:, self.prefix_tokens :].reshape(x.shape[0], *self.grid, self.width))
        if output == "features":
            return maps

        x = LayerNorm(1e-6, self.dtype, name="norm")(x)
        pooled = [x[:, i] for i in range(self.prefix_tokens)] if self.class_token else [jnp.mean(x, 1)]
        if output == "embed":
            return sum(pooled) / len(pooled)
        dropout = nn.Dropout(self.drop_rate, deterministic=not train)
        linear = functools.partial(
            Linear, self.num_classes, self.dtype, weight_init=_NORMAL, bias_init=init.zeros, wide=True
        )
        logits = [linear(name=name)(dropout(y)) for y, name in zip(pooled, ("head", "head_dist"), strict=False)]
        return tuple(logits) if output == "heads" else sum(logits) / len(logits)

    def _tokens(self, x: jax.Array) -> jax.Array:
        """Embedded patches behind the prefix tokens, with their positions."""
        x = Conv(
            self.width,
            self.patch_size,
            stride=self.patch_size,
            bias=True,
            dtype=self.dtype,
            weight_init=init.uniform_fan_in(self.patch_size**2 * x.shape[-1]),
            name="patch_embed.proj",
        )(x.astype(self.dtype))
        x = x.reshape(x.shape[0], -1, self.width)
        length = x.shape[1] + (self.prefix_tokens if self.embed_class else 0)
        positions = self.param("pos_embed", init.declare(_NORMAL), (1, length, self.width)).astype(self.dtype)
        prefix = []
        if self.class_token:
            prefix.append(self.param("cls_token", init.declare(init.normal(1e-6)), (1, 1, self.width)))
        if self.distilled:
            prefix.append(self.param("dist_token", init.declare(_NORMAL), (1, 1, self.width)))
        tokens = [jnp.broadcast_to(t, (x.shape[0], 1, self.width)).astype(self.dtype) for t in prefix]
        if self.embed_class:
            return jnp.concatenate([*tokens, x], 1) + positions
        return jnp.concatenate([*tokens, x + positions], 1)


_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 192, "heads": 3},
    "small": {"width": 384, "heads": 6},
    "medium": {"width": 512, "heads": 8},
    "base": {"width": 768, "heads": 12},
    "large": {"width": 1024, "heads": 16, "depth": 24},
}


def _variant(size: str, pixels: int) -> dict[str, Any]:
    return _SIZES[size] | {"image_size": (pixels, pixels)}


# name -> keyword arguments of ViT.
VARIANTS: dict[str, dict[str, Any]] = {
    **{f"vit_{size}_patch16_{px}": _variant(size, px) for size in ("tiny", "small", "base") for px in (224, 384)},
    "vit_base_patch16_gap_224": _variant("base", 224) | {"heads": 16, "class_token": False},
    **{
        f"deit_{size}_patch16_{px}": _variant(size, px)
        for size, px in [("tiny", 224), ("small", 224), ("base", 224), ("base", 384)]
    },
    **{
        f"deit_{size}_distilled_patch16_{px}": _variant(size, px) | {"distilled": True}
        for size, px in [("tiny", 224), ("small", 224), ("base", 224), ("base", 384)]
    },
    **{
        f"deit3_{size}_patch16_{px}": _variant(size, px) | {"embed_class": False, "layer_scale": 1e-6}
        for size, px in [
            ("small", 224), ("small", 384), ("medium", 224), ("base", 224), ("base", 384), ("large", 224),
            ("large", 384),
        ]
    },
}  # fmt: skip

register(ViT, VARIANTS)
