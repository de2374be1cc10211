"""ResNet and its relatives: -C, -D, -S, -T, -RS, ResNeXt, SE-ResNet, SE-ResNeXt, ECA, GN, wide.

Sources: He et al. 2015 (arXiv 1512.03385) with the stride on the 3x3 convolution
("v1.5"); He et al. 2018, bag of tricks (1812.01187) for -C and -D; Xie et al. 2016
(1611.05431) for ResNeXt; Hu et al. 2018 (1709.01507) for SE; Bello et al. 2021
(2103.07579) for -RS. Names and structure follow timm's ``resnet.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jaxvision.models import initializers as init
from jaxvision.models.classifier import Classifier, LayerGroups
from jaxvision.models.gates import EfficientChannelAttention, Gate, SqueezeExcite, conv_norm_gate, se_channels
from jaxvision.models.layers import BatchNorm, Conv, GroupNorm, Linear, conv_norm, drop_path
from jaxvision.models.registry import register
from jaxvision.ops.convolution import bias_add_act
from jaxvision.ops.dtypes import DType
from jaxvision.ops.pooling import avg_pool_2x2, global_avg_pool, max_pool_3x3

WIDTHS = (64, 128, 256, 512)

Norm = Callable[..., BatchNorm | GroupNorm]


class Block(nn.Module):
    """One residual block: basic (two 3x3) or bottleneck (1x1, 3x3, 1x1), with SE and stochastic depth.

    Attributes:
      width: the stage's base width; the output has ``width * (4 if bottleneck else 1)`` channels.
      inner: channels of the 3x3 convolution of a bottleneck.
      drop_path_rate: probability with which a sample skips this block in training.
    """

    width: int
    inner: int
    stride: int
    bottleneck: bool
    groups: int
    se_ratio: float
    eca: bool
    avg_down: bool
    drop_path_rate: float
    last_scale_init: init.Initializer
    conv: Callable[..., Conv]
    norm: Norm
    weight_init: init.Initializer
    bias_init: init.Initializer | None
    dtype: DType

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        out = self.width * (4 if self.bottleneck else 1)
        unit = functools.partial(conv_norm, train=train)
        if self.bottleneck:
            y = unit(x, self.conv(self.inner, 1, name="conv1"), self.norm(name="bn1"), activation=nn.relu)
            spatial = self.conv(self.inner, 3, stride=self.stride, padding=1, groups=self.groups, name="conv2")
            y = unit(y, spatial, self.norm(name="bn2"), activation=nn.relu)
            last = self.conv(out, 1, name="conv3"), self.norm(scale_init=self.last_scale_init, name="bn3")
        else:
            first = self.conv(out, 3, stride=self.stride, padding=1, name="conv1")
            y = unit(x, first, self.norm(name="bn1"), activation=nn.relu)
            last = self.conv(out, 3, padding=1, name="conv2"), self.norm(scale_init=self.last_scale_init, name="bn2")
        skip = shortcut(x, out, self.stride, self.avg_down, self.conv, self.norm, train)
        gate = self._gate(out)
        if train and self.drop_path_rate:
            y = unit(y, *last)
            y = drop_path(y if gate is None else gate(y), self.drop_path_rate, self.make_rng("drop_path"))
            return bias_add_act(y, None, skip, nn.relu)
        if gate is None:
            return unit(y, *last, add=skip, activation=nn.relu)
        return conv_norm_gate(y, *last, gate, train=train, add=skip, activation=nn.relu)

    def _gate(self, channels: int) -> Gate | None:
        if self.eca:
            return EfficientChannelAttention(self.dtype, name="se")
        if not self.se_ratio:
            return None
        initializers = {"weight_init": self.weight_init, "bias_init": self.bias_init}
        return SqueezeExcite(se_channels(channels, self.se_ratio), self.dtype, **initializers, name="se")


def shortcut(
    x: jax.Array, out: int, stride: int, avg_down: bool, conv: Callable[..., Conv], norm: Norm, train: bool
) -> jax.Array:
    """Identity, or a projection where the shape changes; -D pools before a stride-1 projection.

    Called inside a block, whose submodules ``downsample.*`` become.
    """
    if stride == 1 and x.shape[-1] == out:
        return x
    if not avg_down:
        return conv_norm(x, conv(out, 1, stride=stride, name="downsample.0"), norm(name="downsample.1"), train=train)
    if stride == 2:
        x = avg_pool_2x2(x)
    return conv_norm(x, conv(out, 1, name="downsample.1"), norm(name="downsample.2"), train=train)


class ResNet(Classifier):
    """ResNet over images of any size; its maps are those of the four stages, at strides 4, 8, 16 and 32.

    Attributes:
      depths: blocks per stage.
      bottleneck: 1x1-3x3-1x1 blocks instead of two 3x3.
      stem: "7x7", "deep" (three 3x3 of widths w, w, 2w) or "tiered" (3w/4, w, 2w).
      stem_width: w.
      stem_pool: "max", or "conv": a 3x3 stride-2 convolution, BN and ReLU (ResNet-RS).
      avg_down: ResNet-D shortcut.
      groups, base_width: ResNeXt's cardinality and width per group at width 64.
      se_ratio: squeeze-and-excitation ratio, 0 for none.
      eca: efficient channel attention instead.
      num_groups: group normalisation with this many groups instead of batch normalisation.
      init_scheme: "torch" (timm) or "tf" (tensorflow/tpu, for ResNet-RS).
      zero_last_scale: whether the last normalisation of a block starts with a scale of 0 (timm, Goyal et al. 2017,
        arXiv 1706.02677), so that the block starts as the identity, or with 1 (torchvision).
    """

    layer_groups = LayerGroups(stem=r"conv1|bn1|maxpool", block=r"layer(\d+)\.(\d+)")

    depths: tuple[int, int, int, int]
    bottleneck: bool = True
    stem: str = "7x7"
    stem_width: int = 32
    stem_pool: str = "max"
    avg_down: bool = False
    groups: int = 1
    base_width: int = 64
    se_ratio: float = 0.0
    eca: bool = False
    num_groups: int = 0
    init_scheme: str = "torch"
    zero_last_scale: bool = True

    @property
    def num_features(self) -> int:
        return WIDTHS[-1] * (4 if self.bottleneck else 1)

    @property
    def map_names(self) -> list[str]:
        return ["act1", *(f"layer{s + 1}" for s in range(len(self.depths)))]

    def body(
        self, x: jax.Array, train: bool, drop_block: jax.Array | float | None = None
    ) -> tuple[list[jax.Array], jax.Array]:
        """See :class:`Classifier`; ``drop_block`` is of ResNeSt alone."""
        tf = self.init_scheme == "tf"
        weight_init = init.truncated_fan_in if tf else init.kaiming_normal_fan_out
        bias_init = init.zeros if tf else None
        conv = functools.partial(Conv, dtype=self.dtype, weight_init=weight_init)
        norm: Norm
        if self.num_groups:
            norm = functools.partial(GroupNorm, num_groups=self.num_groups, dtype=self.dtype)
        else:
            norm = functools.partial(BatchNorm, momentum=self.bn_momentum, groups=self.bn_groups, dtype=self.dtype)

        maps = [x := self._stem(x.astype(self.dtype), conv, norm, train)]
        x = self._pooled_stem(x, conv, norm, train)
        block, arguments = self._block(conv, norm, weight_init, bias_init)
        make_block = functools.partial(self.block_class(block), **arguments)
        rates = self.block_rates(self.depths)
        for s, (width, depth) in enumerate(zip(WIDTHS, self.depths, strict=True)):
            extra = () if drop_block is None or s < 2 else (drop_block,)
            for b in range(depth):
                x = make_block(
                    width,
                    inner=width * self.base_width // 64 * self.groups,
                    stride=2 if s > 0 and b == 0 else 1,
                    drop_path_rate=rates[s][b],
                    name=f"layer{s + 1}.{b}",
                )(x, train, *extra)
            maps.append(x)
        return maps, x

    def head(self, x: jax.Array, train: bool, output: str) -> jax.Array:
        """See :class:`Classifier`."""
        x = global_avg_pool(x)
        if output == "embed":
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        weight, bias = (init.normal(0.01), init.zeros) if self.init_scheme == "tf" else (None, None)
        return Linear(self.num_classes, self.dtype, weight_init=weight, bias_init=bias, wide=True, name="fc")(x)

    def _block(
        self, conv: Callable[..., Conv], norm: Norm, weight_init: init.Initializer, bias_init: init.Initializer | None
    ) -> tuple[type[nn.Module], dict[str, Any]]:
        """The block's class and the arguments that all blocks share."""
        return Block, {
            "bottleneck": self.bottleneck,
            "groups": self.groups,
            "se_ratio": self.se_ratio,
            "eca": self.eca,
            "avg_down": self.avg_down,
            "last_scale_init": self._last_scale_init,
            "conv": conv,
            "norm": norm,
            "weight_init": weight_init,
            "bias_init": bias_init,
            "dtype": self.dtype,
        }

    @property
    def _last_scale_init(self) -> init.Initializer:
        return init.zeros if self.zero_last_scale else init.ones

    def _stem(self, x: jax.Array, conv: Callable[..., Conv], norm: Norm, train: bool) -> jax.Array:
        unit = functools.partial(conv_norm, train=train, activation=nn.relu)
        if self.stem == "7x7":
            last = conv(64, 7, stride=2, padding=3, name="conv1")
        else:
            first = 3 * (self.stem_width // 4) if self.stem == "tiered" else self.stem_width
            x = unit(x, conv(first, 3, stride=2, padding=1, name="conv1.0"), norm(name="conv1.1"))
            x = unit(x, conv(self.stem_width, 3, padding=1, name="conv1.3"), norm(name="conv1.4"))
            last = conv(2 * self.stem_width, 3, padding=1, name="conv1.6")
        return unit(x, last, norm(name="bn1"))

    def _pooled_stem(self, x: jax.Array, conv: Callable[..., Conv], norm: Norm, train: bool) -> jax.Array:
        if self.stem_pool == "max":
            return max_pool_3x3(x)
        layers = conv(x.shape[-1], 3, stride=2, padding=1, name="maxpool.0"), norm(name="maxpool.1")
        return conv_norm(x, *layers, train=train, activation=nn.relu)


_DEPTHS_BASIC = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_DEPTHS = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}
_DEPTHS_RS = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    270: (4, 29, 53, 4),
    350: (4, 36, 72, 4),
    420: (4, 44, 87, 4),
}
_STEMS: dict[str, dict[str, Any]] = {
    "": {},
    "c": {"stem": "deep"},
    "d": {"stem": "deep", "avg_down": True},
    "s": {"stem": "deep", "stem_width": 64},
    "t": {"stem": "tiered", "avg_down": True},
}
_SE = {"se_ratio": 1 / 16}


def _plain(depth: int) -> dict[str, Any]:
    if depth in _DEPTHS_BASIC:
        return {"depths": _DEPTHS_BASIC[depth], "bottleneck": False}
    return {"depths": _DEPTHS[depth]}


def _next(group: str) -> dict[str, Any]:
    cardinality, width = group.removesuffix("d").split("x")
    return {"groups": int(cardinality), "base_width": int(width)}


# name -> keyword arguments of ResNet.
VARIANTS: dict[str, dict[str, Any]] = {
    **{
        f"resnet{depth}{stem}": _plain(depth) | _STEMS[stem]
        for depth, stems in [
            (10, "t"), (14, "t"), (18, " d"), (26, " dt"), (34, " d"), (50, " cdst"),
            (101, " cds"), (152, " cds"), (200, " d"),
        ]
        for stem in map(str.strip, stems)
    },
    **{
        f"resnext{depth}{stem}_{group}": _plain(depth) | _STEMS[stem] | _next(group)
        for depth, stem, group in [
            (50, "", "32x4d"), (50, "d", "32x4d"), (101, "", "32x4d"), (101, "", "32x8d"), (101, "", "64x4d"),
        ]
    },
    **{
        f"seresnet{depth}{stem}": _plain(depth) | _STEMS[stem] | _SE
        for depth, stem in [
            (18, ""), (34, ""), (50, ""), (50, "t"), (101, ""), (152, ""), (152, "d"), (200, "d"), (269, "d"),
        ]
    },
    **{
        f"seresnext{depth}{stem}_{group}": _plain(depth) | _STEMS[stem] | _next(group) | _SE
        for depth, stem, group in [
            (26, "d", "32x4d"), (26, "t", "32x4d"), (50, "", "32x4d"), (101, "", "32x4d"), (101, "", "32x8d"),
            (101, "", "64x4d"), (101, "d", "32x8d"),
        ]
    },
    **{f"ecaresnet50{stem}": _plain(50) | _STEMS[stem] | {"eca": True} for stem in "dt"},
    "resnet50_gn": _plain(50) | {"num_groups": 32},
    **{f"wide_resnet{depth}_2": _plain(depth) | {"base_width": 128} for depth in (50, 101)},
    **{
        f"resnetrs{depth}": _STEMS["d"]
        | {"depths": depths, "stem_pool": "conv", "se_ratio": 0.25, "drop_path_rule": "stage", "init_scheme": "tf"}
        for depth, depths in _DEPTHS_RS.items()
    },
}  # fmt: skip

register(ResNet, VARIANTS)
