"""EfficientNet and EfficientNetV2, timm's and TensorFlow's (``tf_*``).

Sources: Tan & Le 2019 (arXiv 1905.11946) and 2021 (2104.00298); tensorflow/tpu and
google/automl for the ``tf_`` variants (SAME padding, BN epsilon 1e-3). Names and
structure follow timm's ``efficientnet.py``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models import initializers as init
from jaxvision.models.gates import SqueezeExcite
from jaxvision.models.layers import BatchNorm, Conv, GroupNorm, Linear, conv_norm, drop_path
from jaxvision.models.registry import register
from jaxvision.ops.convolution import bias_add_act
from jaxvision.ops.dtypes import DType
from jaxvision.ops.pooling import global_avg_pool

Norm = Callable[..., BatchNorm | GroupNorm]


class Stage(NamedTuple):
    """A row of the papers' architecture tables.

    ``kind`` is "conv" (3x3), "separable" (depthwise, 1x1), "mbconv" (1x1, depthwise, 1x1) or
    "fused" (3x3, 1x1); ``se`` is relative to the block's input.
    """

    kind: str
    repeats: int
    kernel: int
    stride: int
    expand: int
    out: int
    se: float = 0.0


_V1 = (
    Stage("separable", 1, 3, 1, 1, 16, 0.25),
    Stage("mbconv", 2, 3, 2, 6, 24, 0.25),
    Stage("mbconv", 2, 5, 2, 6, 40, 0.25),
    Stage("mbconv", 3, 3, 2, 6, 80, 0.25),
    Stage("mbconv", 3, 5, 1, 6, 112, 0.25),
    Stage("mbconv", 4, 5, 2, 6, 192, 0.25),
    Stage("mbconv", 1, 3, 1, 6, 320, 0.25),
)
_V2_BASE = (
    Stage("conv", 1, 3, 1, 1, 16),
    Stage("fused", 2, 3, 2, 4, 32),
    Stage("fused", 2, 3, 2, 4, 48),
    Stage("mbconv", 3, 3, 2, 4, 96, 0.25),
    Stage("mbconv", 5, 3, 1, 6, 112, 0.25),
    Stage("mbconv", 8, 3, 2, 6, 192, 0.25),
)
_V2_S = (
    Stage("conv", 2, 3, 1, 1, 24),
    Stage("fused", 4, 3, 2, 4, 48),
    Stage("fused", 4, 3, 2, 4, 64),
    Stage("mbconv", 6, 3, 2, 4, 128, 0.25),
    Stage("mbconv", 9, 3, 1, 6, 160, 0.25),
    Stage("mbconv", 15, 3, 2, 6, 256, 0.25),
)
# timm's version from before the official release.
_V2_RW = (Stage("fused", 2, 3, 1, 1, 24), *_V2_S[1:-1], Stage("mbconv", 15, 3, 2, 6, 272, 0.25))
_V2_M = (
    Stage("conv", 3, 3, 1, 1, 24),
    Stage("fused", 5, 3, 2, 4, 48),
    Stage("fused", 5, 3, 2, 4, 80),
    Stage("mbconv", 7, 3, 2, 4, 160, 0.25),
    Stage("mbconv", 14, 3, 1, 6, 176, 0.25),
    Stage("mbconv", 18, 3, 2, 6, 304, 0.25),
    Stage("mbconv", 5, 3, 1, 6, 512, 0.25),
)
_V2_L = (
    Stage("conv", 4, 3, 1, 1, 32),
    Stage("fused", 7, 3, 2, 4, 64),
    Stage("fused", 7, 3, 2, 4, 96),
    Stage("mbconv", 10, 3, 2, 4, 192, 0.25),
    Stage("mbconv", 19, 3, 1, 6, 224, 0.25),
    Stage("mbconv", 25, 3, 2, 6, 384, 0.25),
    Stage("mbconv", 7, 3, 1, 6, 640, 0.25),
)


def round_channels(channels: float, divisor: int = 8, limit: float = 0.9) -> int:
    """The nearest multiple of ``divisor``, one more where that loses over ``1 - limit`` of the channels."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < limit * channels else rounded


class Block(nn.Module):
    """One block of a stage; see :class:`Stage`.

    Attributes:
      group_size: channels per group of the spatial convolution of "separable" and "mbconv"; 1 is depthwise.
      drop_path_rate: probability with which a sample skips this block in training.
    """

    kind: str
    kernel: int
    stride: int
    expand: int
    out: int
    se: float
    group_size: int
    drop_path_rate: float
    conv: Callable[..., Conv]
    norm: Norm
    dtype: DType

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = x.shape[-1]
        inner = round_channels(width * self.expand)
        unit = functools.partial(conv_norm, train=train)
        residual = self.stride == 1 and width == self.out
        dropped = train and self.drop_path_rate
        if self.kind == "conv":
            layers = self.conv(self.out, self.kernel, stride=self.stride, name="conv"), self.norm(name="bn1")
            y = unit(x, *layers, activation=nn.silu)
        else:
            if self.kind == "fused":
                wide = self.conv(inner, self.kernel, stride=self.stride, name="conv_exp")
                y = unit(x, wide, self.norm(name="bn1"), activation=nn.silu)
                last = self.conv(self.out, 1, name="conv_pwl"), self.norm(name="bn2")
            elif self.kind == "separable":
                y = unit(x, self._spatial(width), self.norm(name="bn1"), activation=nn.silu)
                last = self.conv(self.out, 1, name="conv_pw"), self.norm(name="bn2")
            else:
                y = unit(x, self.conv(inner, 1, name="conv_pw"), self.norm(name="bn1"), activation=nn.silu)
                y = unit(y, self._spatial(inner), self.norm(name="bn2"), activation=nn.silu)
                last = self.conv(self.out, 1, name="conv_pwl"), self.norm(name="bn3")
            y = self._gate(y, width)
            if residual and not dropped:
                return unit(y, *last, add=x)
            y = unit(y, *last)
        if not residual:
            return y
        if dropped:
            y = drop_path(y, self.drop_path_rate, self.make_rng("drop_path"))
        return bias_add_act(y, None, x, None)

    def _spatial(self, channels: int) -> Conv:
        groups = channels // self.group_size
        initializer = init.kaiming_normal_fan_out_grouped(groups)
        return self.conv(
            channels, self.kernel, stride=self.stride, groups=groups, weight_init=initializer, name="conv_dw"
        )

    def _gate(self, x: jax.Array, width: int) -> jax.Array:
        if not self.se:
            return x
        # timm rounds expanded channels * (ratio / expansion), which differs from width * ratio at the halves.
        reduced = round(x.shape[-1] * (self.se / (self.expand if self.kind != "separable" else 1)))
        names = ("conv_reduce", "conv_expand")
        return SqueezeExcite(reduced, self.dtype, bias_init=init.zeros, activation=nn.silu, names=names, name="se")(x)


class EfficientNet(nn.Module):
    """EfficientNet over NHWC images.

    Attributes:
      stages: rows of the architecture table, at multiplier 1.
      stem_width, head_width: channels of the first and the last convolution, at multiplier 1.
      width, depth: multipliers of the channels and of the repeats (one, or one per stage).
      divisor, round_limit: of :func:`round_channels`.
      scale_head: whether ``width`` multiplies the head, too.
      padding: None pads symmetrically (timm), "same" as TensorFlow.
      bn_eps: batch normalisation's epsilon.
      group_size: see :class:`Block`.
      norm_group_size: channels per group of group normalisation; 0 is batch normalisation.
      bn_groups, bn_momentum: see :class:`BatchNorm`.
      remat: recompute each block's activations in the backward pass to save memory.
    """

    attends: ClassVar[bool] = False  # whether attention is most of its work
    stages: tuple[Stage, ...]
    num_classes: int = 1000
    stem_width: int = 32
    head_width: int = 1280
    width: float = 1.0
    depth: float | tuple[float, ...] = 1.0
    divisor: int = 8
    round_limit: float = 0.9
    scale_head: bool = True
    padding: str | None = None
    bn_eps: float = 1e-5
    group_size: int = 1
    norm_group_size: int = 0
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    bn_momentum: float = 0.1
    bn_groups: int = 1
    remat: bool = False
    dtype: DType = jnp.float32

    @property
    def num_features(self) -> int:
        return self._scaled(self.head_width) if self.scale_head else self.head_width

    def _scaled(self, channels: int) -> int:
        return round_channels(channels * self.width, self.divisor, self.round_limit)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, output: str = "logits") -> Any:
        """Runs the network.

        Args:
          x: (N, H, W, C) normalised images.
          train: batch statistics, dropout and stochastic depth. Needs the rngs
            "dropout" and "drop_path" where their rates are not zero.
          output: "logits", "embed" or "features".

        Returns:
          float32 logits (N, num_classes); or the pooled (N, num_features); or the list of
          the five maps at strides 2, 4, 8, 16 and 32.
        """

        def conv(features: int, kernel: int, **arguments: Any) -> Conv:
            padding = kernel // 2 if self.padding is None else self.padding
            return Conv(features, kernel, padding=padding, dtype=self.dtype, **arguments)

        norm: Norm
        if self.norm_group_size:
            norm = functools.partial(GroupNorm, group_size=self.norm_group_size, dtype=self.dtype)
        else:
            norm = functools.partial(
                BatchNorm, eps=self.bn_eps, momentum=self.bn_momentum, groups=self.bn_groups, dtype=self.dtype
            )
        make_block = functools.partial(
            nn.remat(Block, static_argnums=(2,)) if self.remat else Block,
            group_size=self.group_size,
            conv=conv,
            norm=norm,
            dtype=self.dtype,
        )
        unit = functools.partial(conv_norm, train=train, activation=nn.silu)
        x = unit(
            x.astype(self.dtype), conv(self._scaled(self.stem_width), 3, stride=2, name="conv_stem"), norm(name="bn1")
        )
        maps = []
        rates = self._drop_path_rates()
        for s, stage in enumerate(self.stages):
            for b in range(self._depths()[s]):
                x = make_block(
                    kind=stage.kind,
                    kernel=stage.kernel,
                    stride=stage.stride if b == 0 else 1,
                    expand=stage.expand,
                    out=self._scaled(stage.out),
                    se=stage.se,
                    drop_path_rate=rates[s][b],
                    name=f"blocks.{s}.{b}",
                )(x, train)
            if s + 1 == len(self.stages) or self.stages[s + 1].stride > 1:
                maps.append(x)
        if output == "features":
            return maps

        x = unit(x, conv(self.num_features, 1, name="conv_head"), norm(name="bn2"))
        x = global_avg_pool(x)
        if output == "embed":
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return Linear(
            self.num_classes,
            self.dtype,
            weight_init=init.uniform_fan_out,
            bias_init=init.zeros,
            wide=True,
            name="classifier",
        )(x)

    def _depths(self) -> list[int]:
        factors = self.depth if isinstance(self.depth, tuple) else (self.depth,) * len(self.stages)
        return [math.ceil(stage.repeats * factor) for stage, factor in zip(self.stages, factors, strict=True)]

    def _drop_path_rates(self) -> list[list[float]]:
        """rate * i / L over all L blocks: the last one stays below the rate."""
        depths = self._depths()
        total = sum(depths)
        return [
            [self.drop_path_rate * (sum(depths[:s]) + b) / total for b in range(depth)]
            for s, depth in enumerate(depths)
        ]


# width and depth multipliers of the papers.
_SCALES = [(1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8), (1.6, 2.2), (1.8, 2.6), (2.0, 3.1), (2.2, 3.6)]
_TF: dict[str, Any] = {"padding": "same", "bn_eps": 1e-3}


def _b(index: int) -> dict[str, Any]:
    width, depth = _SCALES[index]
    return {"stages": _V1, "width": width, "depth": depth}


_SIZES: dict[str, dict[str, Any]] = {
    "s": {"stages": _V2_S, "stem_width": 24},
    "m": {"stages": _V2_M, "stem_width": 24},
    "l": {"stages": _V2_L},
}
_RW = {"stages": _V2_RW, "stem_width": 24, "head_width": 1792}

# name -> keyword arguments of EfficientNet.
VARIANTS: dict[str, dict[str, Any]] = {
    **{f"efficientnet_b{i}": _b(i) for i in range(9)},
    "efficientnet_b0_gn": _b(0) | {"norm_group_size": 8},
    "efficientnet_b0_g8_gn": _b(0) | {"norm_group_size": 8, "group_size": 8},
    # timm builds it with batch normalisation, whatever the name says.
    "efficientnet_b0_g16_evos": _b(0) | {"group_size": 16, "divisor": 16},
    "efficientnet_b3_gn": _b(3) | {"norm_group_size": 16, "divisor": 16},
    "efficientnet_b3_g8_gn": _b(3) | {"norm_group_size": 16, "group_size": 8, "divisor": 16},
    **{f"tf_efficientnet_b{i}": _b(i) | _TF for i in range(9)},
    **{f"efficientnetv2_{size}": arguments for size, arguments in _SIZES.items()},
    "efficientnetv2_rw_t": {"stages": _V2_S, "stem_width": 24, "width": 0.8, "depth": 0.9},
    "efficientnetv2_rw_s": _RW,
    "efficientnetv2_rw_m": _RW | {"width": 1.2, "depth": (1.2,) * 4 + (1.6,) * 2},
    **{f"tf_efficientnetv2_{size}": arguments | _TF for size, arguments in _SIZES.items()},
    **{
        f"tf_efficientnetv2_b{i}": {"stages": _V2_BASE, "width": width, "depth": depth, "round_limit": 0.0} | _TF
        for i, (width, depth) in enumerate(_SCALES[:4])
    },
}

register(EfficientNet, VARIANTS)
