"""ResNeSt: ResNet-D with split attention.

Source: Zhang et al. 2020 (arXiv 2004.08955). Names and structure follow timm's
``resnest.py``; its blocks drop the *shortcut* under stochastic depth, ours the branch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models import initializers as init
from jaxvision.models.drop_block import drop_block, shared_drop_block
from jaxvision.models.layers import Conv, conv_norm, drop_path
from jaxvision.models.registry import register
from jaxvision.models.resnet import Norm, ResNet, shortcut
from jaxvision.ops.convolution import bias_add_act
from jaxvision.ops.pooling import avg_pool_3x3, global_avg_pool


class SplitAttention(nn.Module):
    """``radix`` parallel 3x3 convolutions, weighted per channel by a softmax that their pooled sum determines."""

    channels: int
    radix: int
    groups: int
    conv: Callable[..., Conv]
    norm: Norm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_rate: jax.Array | float | None = None) -> jax.Array:
        radix, groups = self.radix, self.groups
        layers = (
            self.conv(self.channels * radix, 3, padding=1, groups=groups * radix, name="conv"),
            self.norm(name="bn0"),
        )
        if train and drop_rate is not None:
            x = nn.relu(drop_block(conv_norm(x, *layers, train=train), drop_rate, self.make_rng("drop_path")))
        else:
            x = conv_norm(x, *layers, train=train, activation=nn.relu)
        # Channel r * C + c is channel c of branch r.
        x = x.reshape(*x.shape[:3], radix, self.channels)
        gate = global_avg_pool(jnp.sum(x, 3))[:, None, None]
        reduced = max(32, int(self.channels * radix * 0.25 + 4) // 8 * 8)
        first = self.conv(reduced, 1, groups=groups, bias=True, name="fc1")
        gate = conv_norm(gate, first, self.norm(name="bn1"), train=train, activation=nn.relu)
        gate = self.conv(self.channels * radix, 1, groups=groups, bias=True, name="fc2")(gate)
        if radix == 1:
            return x[:, :, :, 0] * nn.sigmoid(gate)
        gate = nn.softmax(gate.reshape(-1, groups, radix, self.channels // groups), 2)
        gate = gate.transpose(0, 2, 1, 3).reshape(-1, 1, 1, radix, self.channels)
        return jnp.sum(x * gate, 3)


class Block(nn.Module):
    """Bottleneck with split attention in the middle; a stride is an average pool before or after it."""

    width: int
    inner: int
    stride: int
    radix: int
    groups: int
    pool_first: bool
    drop_path_rate: float
    drop_block_kind: str
    drop_block_groups: int
    last_scale_init: init.Initializer
    conv: Callable[..., Conv]
    norm: Norm

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_rate: jax.Array | float | None = None) -> jax.Array:
        out = 4 * self.width
        unit = functools.partial(conv_norm, train=train)
        shared = train and drop_rate is not None and self.drop_block_kind == "resnest"

        def dropped(y: jax.Array) -> jax.Array:
            if not shared:
                return y
            return shared_drop_block(y, drop_rate, self.make_rng("drop_path"), self.drop_block_groups)

        first = self.conv(self.inner, 1, name="conv1"), self.norm(name="bn1")
        y = nn.relu(dropped(unit(x, *first))) if shared else unit(x, *first, activation=nn.relu)
        if self.stride > 1 and self.pool_first:
            y = avg_pool_3x3(y)
        attention = SplitAttention(self.inner, self.radix, self.groups, self.conv, self.norm, name="conv2")
        y = dropped(attention(y, train)) if shared else attention(y, train, drop_rate)
        if self.stride > 1 and not self.pool_first:
            y = avg_pool_3x3(y)
        last = self.conv(out, 1, name="conv3"), self.norm(scale_init=self.last_scale_init, name="bn3")
        skip = shortcut(x, out, self.stride, True, self.conv, self.norm, train)
        if not shared and not (train and self.drop_path_rate):
            return unit(y, *last, add=skip, activation=nn.relu)
        y = dropped(unit(y, *last))
        if self.drop_path_rate:
            y = drop_path(y, self.drop_path_rate, self.make_rng("drop_path"))
        return bias_add_act(y, None, skip, nn.relu)


class ResNeSt(ResNet):
    """ResNet-D with blocks of split attention; see :class:`ResNet`.

    Attributes:
      radix: branches of the split attention.
      pool_first: in blocks with a stride, whether the average pool comes before the split attention or after it.
      drop_block_kind: "timm": one DropBlock per block, inside the split attention, with a mask per image; "resnest":
        the three of ResNeSt's code, before the first ReLU, behind the split attention and behind the last
        normalisation, with a mask per channel that the images of a device share (the parts of ``bn_groups``).
    """

    takes_drop_block = True

    stem: str = "deep"
    avg_down: bool = True
    radix: int = 2
    pool_first: bool = False
    drop_block_kind: str = "timm"

    def _block(
        self, conv: Callable[..., Conv], norm: Norm, weight_init: init.Initializer, bias_init: init.Initializer | None
    ) -> tuple[type[nn.Module], dict[str, Any]]:
        return Block, {
            "radix": self.radix,
            "groups": self.groups,
            "pool_first": self.pool_first,
            "drop_block_kind": self.drop_block_kind,
            "drop_block_groups": self.bn_groups,
            "last_scale_init": self._last_scale_init,
            "conv": conv,
            "norm": norm,
        }


# name -> keyword arguments of ResNeSt.
VARIANTS: dict[str, dict[str, Any]] = {
    "resnest14d": {"depths": (1, 1, 1, 1)},
    "resnest26d": {"depths": (2, 2, 2, 2)},
    "resnest50d": {"depths": (3, 4, 6, 3)},
    "resnest101e": {"depths": (3, 4, 23, 3), "stem_width": 64},
    "resnest200e": {"depths": (3, 24, 36, 3), "stem_width": 64},
    "resnest269e": {"depths": (3, 30, 48, 8), "stem_width": 64},
    "resnest50d_1s4x24d": {"depths": (3, 4, 6, 3), "radix": 1, "groups": 4, "base_width": 24, "pool_first": True},
    "resnest50d_4s2x40d": {"depths": (3, 4, 6, 3), "radix": 4, "groups": 2, "base_width": 40, "pool_first": True},
}

register(ResNeSt, VARIANTS)
