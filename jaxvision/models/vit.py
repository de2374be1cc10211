"""Vision transformers: ViT, DeiT (also distilled) and DeiT-III.

Sources: Dosovitskiy et al. 2020 (arXiv 2010.11929); Touvron et al. 2020 (2012.12877) for
DeiT and its distillation token; Touvron et al. 2022 (2204.07118) for DeiT-III. Names and
structure follow timm's ``vision_transformer.py`` and ``deit.py``. Checkpoints may also have
the names of torchvision (ViT) or of the paper's repository (DeiT-III).
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
from jaxvision.models.position_tables import Size, resize_position_embedding
from jaxvision.models.registry import register
from jaxvision.models.renaming import State, rename
from jaxvision.ops.dtypes import DType
from jaxvision.ops.materialize import materialize_call

_NORMAL = init.truncated_normal(0.02)

_FROM_TORCHVISION = (
    (r"class_token", "cls_token"),
    (r"conv_proj\.(.+)", r"patch_embed.proj.\1"),
    (r"encoder\.pos_embedding", "pos_embed"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.ln_(\d)\.(.+)", r"blocks.\1.norm\2.\3"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_(.+)", r"blocks.\1.attn.qkv.\2"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.(.+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.(.+)", r"blocks.\1.mlp.fc1.\2"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.(.+)", r"blocks.\1.mlp.fc2.\2"),
    (r"encoder\.ln\.(.+)", r"norm.\1"),
    (r"heads\.head\.(.+)", r"head.\1"),
)
_FROM_DEIT3 = ((r"(blocks\.\d+)\.gamma_(\d)", r"\1.ls\2.gamma"),)


class Block(nn.Module):
    """Attention and an MLP, each with a normalisation before it, a scale after it (DeiT-III) and a shortcut.

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


class ViT(Classifier):
    """Vision transformer over images of one size; its maps (N, *grid, width) are the blocks' outputs for the patches.

    Attributes:
      width: channels of a token.
      heads: attention heads of a block.
      depth: number of blocks.
      patch_size: side of a patch in pixels.
      image_size: (height, width) in pixels, multiples of the patch.
      class_token: whether the classifier sees a class token, or else the mean of all tokens.
      distilled: a distillation token with a second classifier; the logits are the mean of both (DeiT).
      embed_class: whether the position embedding has entries for the class and distillation tokens.
      layer_scale: see :class:`Block`.
    """

    layer_groups = LayerGroups(stem="patch_embed|cls_token|dist_token|pos_embed", block=r"blocks\.(\d+)", neck="norm")
    attends = True

    width: int
    heads: int
    depth: int = 12
    patch_size: int = 16
    image_size: Size = (224, 224)
    class_token: bool = True
    distilled: bool = False
    embed_class: bool = True
    layer_scale: float | None = None

    @property
    def num_features(self) -> int:
        return self.width

    @property
    def global_pool(self) -> str:
        return "token" if self.class_token else "avg"

    @property
    def grid(self) -> Size:
        """(rows, columns) of patches."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def prefix_tokens(self) -> int:
        """Number of class and distillation tokens, which are in front of the patches."""
        return self.class_token + self.distilled

    @property
    def map_names(self) -> list[str]:
        return [f"blocks.{i}" for i in range(self.depth)]

    def body(self, x: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """See :class:`Classifier`."""
        require_size(x, at_least=self.patch_size, exactly=self.image_size, multiple=self.patch_size)
        x = self._tokens(x)
        make_block = self.block_class(Block)
        maps = []
        for i, rate in enumerate(self.block_rates([self.depth])[0]):
            x = make_block(self.heads, self.layer_scale, rate, self.dtype, name=f"blocks.{i}")(x, train)
            maps.append(x[:, self.prefix_tokens :].reshape(x.shape[0], *self.grid, self.width))
        return maps, LayerNorm(1e-6, self.dtype, name="norm")(x)

    def head(self, x: jax.Array, train: bool, output: str) -> jax.Array | tuple[jax.Array, ...]:
        """See :class:`Classifier`."""
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
        """(N, prefix + patches, width): prefix tokens and embedded patches, with their positions."""
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
        length = x.shape[1] + self._prefix
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

    def with_image_size(self, params: dict[str, Any], size: Size) -> tuple[ViT, dict[str, Any]]:
        """The position embedding is resampled."""
        new = self.clone(image_size=size)
        table = resize_position_embedding(np.asarray(params["pos_embed"]), self._prefix, self.grid, new.grid)
        return new, {**params, "pos_embed": jnp.asarray(table)}

    def resampled(self, name: str, table: np.ndarray) -> tuple[np.ndarray, str] | None:
        """The position embedding, of a square grid."""
        if name != "pos_embed" or table.ndim != 3 or table.shape[2] != self.width:
            return None
        side = round((table.shape[1] - self._prefix) ** 0.5)
        if side * side + self._prefix != table.shape[1]:
            return None
        note = f"pos_embed resampled from {side}x{side} to {self.grid[0]}x{self.grid[1]} patches"
        return resize_position_embedding(table, self._prefix, (side, side), self.grid), note

    def to_timm_names(self, state: State) -> tuple[State, list[str]]:
        """Takes the names of torchvision and of DeiT-III's repository."""
        if "conv_proj.weight" in state:
            return rename(state, _FROM_TORCHVISION), []
        return rename(state, _FROM_DEIT3), []

    @property
    def _prefix(self) -> int:
        """Entries of the position embedding for the prefix tokens."""
        return self.prefix_tokens if self.embed_class else 0


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
