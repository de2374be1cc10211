"""EfficientNet, EfficientNet-Lite and EfficientNetV2, timm's and TensorFlow's (``tf_*``).

Sources: Tan & Le 2019 (arXiv 1905.11946) and 2021 (2104.00298); tensorflow/tpu (Lite: ``efficientnet/lite``) and
google/automl for the ``tf_`` variants (SAME padding, BN epsilon 1e-3). Names and structure follow timm's
``efficientnet.py``. Checkpoints may also have the names of torchvision or of efficientnet_pytorch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from jaxvision.models import efficientnet_names
from jaxvision.models import initializers as init
from jaxvision.models.classifier import Classifier, LayerGroups
from jaxvision.models.gates import SqueezeExcite
from jaxvision.models.layers import BatchNorm, Conv, GroupNorm, Linear, conv_norm, drop_path
from jaxvision.models.registry import register
from jaxvision.models.renaming import State, is_torchvision_sequence
from jaxvision.ops.activations import Activation, relu6
from jaxvision.ops.convolution import bias_add_act
from jaxvision.ops.dtypes import DType
from jaxvision.ops.pooling import global_avg_pool

Norm = Callable[..., BatchNorm | GroupNorm]
ACTIVATIONS: dict[str, Activation] = {"silu": nn.silu, "relu6": relu6}


class Stage(NamedTuple):
    """A row of the papers' architecture tables.

    Attributes:
      kind: "conv" (3x3), "separable" (depthwise, 1x1), "mbconv" (1x1, depthwise, 1x1) or "fused" (3x3, 1x1).
      repeats: number of blocks.
      kernel, stride: of the spatial convolution; the stride is that of the first block.
      expand: channels inside a block, relative to its input.
      out: channels of the output.
      se: channels of the squeeze-and-excitation bottleneck, relative to the block's input; 0 for none.
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
# timm's version, from before the official release.
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
    activation: Activation
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
            y = unit(x, *layers, activation=self.activation)
        else:
            if self.kind == "fused":
                wide = self.conv(inner, self.kernel, stride=self.stride, name="conv_exp")
                y = unit(x, wide, self.norm(name="bn1"), activation=self.activation)
                last = self.conv(self.out, 1, name="conv_pwl"), self.norm(name="bn2")
            elif self.kind == "separable":
                y = unit(x, self._spatial(width), self.norm(name="bn1"), activation=self.activation)
                last = self.conv(self.out, 1, name="conv_pw"), self.norm(name="bn2")
            else:
                y = unit(x, self.conv(inner, 1, name="conv_pw"), self.norm(name="bn1"), activation=self.activation)
                y = unit(y, self._spatial(inner), self.norm(name="bn2"), activation=self.activation)
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
        return SqueezeExcite(
            reduced, self.dtype, bias_init=init.zeros, activation=self.activation, names=names, name="se"
        )(x)


class EfficientNet(Classifier):
    """EfficientNet over images of any size; its maps are the last ones at strides 2, 4, 8, 16 and 32.

    Attributes:
      stages: rows of the architecture table, before the multipliers.
      stem_width, head_width: channels of the first and the last convolution, before the multipliers.
      width, depth: multipliers of the channels and of the repeats (one, or one per stage).
      divisor, round_limit: see :func:`round_channels`.
      scale_stem, scale_head: whether ``width`` also multiplies ``stem_width`` and ``head_width``.
      activation: "silu" or "relu6".
      padding: None pads symmetrically (timm), "same" as TensorFlow does.
      bn_eps: epsilon of batch normalisation.
      group_size: see :class:`Block`.
      norm_group_size: channels per group of group normalisation; 0 for batch normalisation.
    """

    layer_groups = LayerGroups(stem=r"conv_stem|bn1", block=r"blocks\.(\d+)\.(\d+)", neck=r"conv_head|bn2")

    drop_path_rule: str = dataclasses.field(default="open_linear", kw_only=True)
    stages: tuple[Stage, ...]
    stem_width: int = 32
    head_width: int = 1280
    width: float = 1.0
    depth: float | tuple[float, ...] = 1.0
    divisor: int = 8
    round_limit: float = 0.9
    scale_stem: bool = True
    scale_head: bool = True
    activation: str = "silu"
    padding: str | None = None
    bn_eps: float = 1e-5
    group_size: int = 1
    norm_group_size: int = 0

    @property
    def num_features(self) -> int:
        return self._scaled(self.head_width) if self.scale_head else self.head_width

    def _scaled(self, channels: int) -> int:
        return round_channels(channels * self.width, self.divisor, self.round_limit)

    @property
    def map_names(self) -> list[str]:
        return [f"blocks.{s}" for s in range(len(self.stages)) if self._ends_map(s)]

    @property
    def new_classifier_scale(self) -> float:
        # Initial values within 1 / sqrt(classes) would be far too large for a few classes: a loss of 5.7 for 6 of them.
        # timm's reset_classifier draws them within 1 / sqrt(features).
        return min(1.0, (self.num_classes / self.num_features) ** 0.5)

    def _ends_map(self, stage: int) -> bool:
        """Whether a stage is the last one at its stride."""
        return stage + 1 == len(self.stages) or self.stages[stage + 1].stride > 1

    def body(self, x: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """See :class:`Classifier`."""

        def conv(features: int, kernel: int, **arguments: Any) -> Conv:
            padding = kernel // 2 if self.padding is None else self.padding
            return Conv(features, kernel, padding=padding, dtype=self.dtype, **arguments)

        activation = ACTIVATIONS[self.activation]
        norm: Norm
        if self.norm_group_size:
            norm = functools.partial(GroupNorm, group_size=self.norm_group_size, dtype=self.dtype)
        else:
            norm = functools.partial(
                BatchNorm, eps=self.bn_eps, momentum=self.bn_momentum, groups=self.bn_groups, dtype=self.dtype
            )
        make_block = functools.partial(
            self.block_class(Block),
            group_size=self.group_size,
            conv=conv,
            norm=norm,
            activation=activation,
            dtype=self.dtype,
        )
        activation = ACTIVATIONS[self.activation]
        unit = functools.partial(conv_norm, train=train, activation=activation)
        stem = self._scaled(self.stem_width) if self.scale_stem else self.stem_width
        x = unit(x.astype(self.dtype), conv(stem, 3, stride=2, name="conv_stem"), norm(name="bn1"))
        maps = []
        depths = self.depths
        rates = self.block_rates(depths)
        for s, stage in enumerate(self.stages):
            for b in range(depths[s]):
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
            if self._ends_map(s):
                maps.append(x)
        return maps, unit(x, conv(self.num_features, 1, name="conv_head"), norm(name="bn2"))

    def head(self, x: jax.Array, train: bool, output: str) -> jax.Array:
        """See :class:`Classifier`."""
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

    @property
    def depths(self) -> list[int]:
        """Number of blocks of each stage."""
        factors = self.depth if isinstance(self.depth, tuple) else (self.depth,) * len(self.stages)
        return [math.ceil(stage.repeats * factor) for stage, factor in zip(self.stages, factors, strict=True)]

    def to_timm_names(self, state: State) -> tuple[State, list[str]]:
        """Takes torchvision's and efficientnet_pytorch's names; another epsilon is made up for by the variance."""
        if is_torchvision_sequence(state):
            state, whose = efficientnet_names.from_torchvision(state), "torchvision"
            # torchvision: 1e-3 for B5 to B7 and V2.
            theirs = 1e-3 if "blocks.0.0.conv.weight" in state or state["conv_stem.weight"].shape[0] >= 48 else 1e-5
        elif "_conv_stem.weight" in state:
            state, whose = efficientnet_names.from_efficientnet_pytorch(state, self.depths), "efficientnet_pytorch"
            theirs = 1e-3
        else:
            return state, []
        if theirs == self.bn_eps:
            return state, []
        # Both are used in 1 / sqrt(var + eps) and nowhere else.
        shift = np.float32(theirs - self.bn_eps)
        shifted = {name: value + shift if name.endswith("running_var") else value for name, value in state.items()}
        return shifted, [
            f"{whose}'s BN epsilon is {theirs:g}, this model's {self.bn_eps:g}: running_var shifted accordingly"
        ]


# Width and depth multipliers of the papers.
_SCALES = [(1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8), (1.6, 2.2), (1.8, 2.6), (2.0, 3.1), (2.2, 3.6)]
_TF: dict[str, Any] = {"padding": "same", "bn_eps": 1e-3}


def _b(index: int) -> dict[str, Any]:
    width, depth = _SCALES[index]
    return {"stages": _V1, "width": width, "depth": depth}


def _lite(index: int) -> dict[str, Any]:
    """Without squeeze-and-excitation; stem, head, and the depth of the first and the last stage are not scaled."""
    width, depth = _SCALES[index]
    return {
        "stages": tuple(stage._replace(se=0.0) for stage in _V1),
        "width": width,
        "depth": (1.0, *(depth,) * 5, 1.0),
        "scale_stem": False,
        "scale_head": False,
        "activation": "relu6",
    }


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
    **{f"efficientnet_lite{i}": _lite(i) for i in range(5)},
    **{f"tf_efficientnet_lite{i}": _lite(i) | _TF for i in range(5)},
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
