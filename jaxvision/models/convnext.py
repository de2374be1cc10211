"""ConvNeXt and ConvNeXt-V2.

Sources: Liu et al. 2022 (arXiv 2201.03545); Woo et al. 2023 (2301.00808) for the global
response normalisation of V2. Names and structure follow timm's ``convnext.py``.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models import initializers as init
from jaxvision.models.layers import Conv, LayerNorm, Linear, Mlp, drop_path, linear_rates, require_size
from jaxvision.models.registry import register
from jaxvision.ops.activations import gelu
from jaxvision.ops.dtypes import DType
from jaxvision.ops.pooling import global_avg_pool

_NORMAL = init.truncated_normal(0.02)


class Block(nn.Module):
    """7x7 depthwise convolution, normalisation, two layers with a GELU, layer scale, residual.

    Attributes:
      layer_scale: initial value of the residual branch's scale per channel; None for none.
      drop_path_rate: probability with which a sample skips this block in training.
    """

    conv_mlp: bool
    response_norm: bool
    layer_scale: float | None
    norm: str
    drop_path_rate: float
    dtype: DType

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        y = Conv(
            channels,
            7,
            padding=3,
            groups=channels,
            bias=True,
            dtype=self.dtype,
            weight_init=_NORMAL,
            bias_init=init.zeros,
            name="conv_dw",
        )(x)
        y = LayerNorm(1e-6, self.dtype, self.norm, name="norm")(y)
        y = Mlp(4 * channels, self.dtype, conv=self.conv_mlp, response_norm=self.response_norm, name="mlp")(y)
        if self.layer_scale is not None:
            y = y * self.param("gamma", init.declare(init.constant(self.layer_scale)), (channels,)).astype(self.dtype)
        if train and self.drop_path_rate:
            y = drop_path(y, self.drop_path_rate, self.make_rng("drop_path"))
        return x + y


class ConvNeXt(nn.Module):
    """ConvNeXt over NHWC images of at least 32 pixels a side.

    Attributes:
      depths, widths: blocks and channels of each stage.
      stem: "patch" (4x4, stride 4), or two 3x3 of stride 2: "overlap" (equal widths), "overlap_tiered"
        (half the width first) and "overlap_act" (a GELU between).
      conv_mlp: the weights of the two layers are stored as 1x1 convolutions.
      response_norm: ConvNeXt-V2.
      layer_scale: see :class:`Block`.
      norm: "layer", "rms" or "simple"; see :class:`LayerNorm`.
      norm_first: normalise the last map instead of its mean.
      head_width: width of an additional hidden layer of the classifier; 0 for none.
      bn_momentum, bn_groups: accepted for a uniform interface; there is no batch normalisation.
      remat: recompute each block's activations in the backward pass to save memory.
    """

    attends: ClassVar[bool] = False  # whether attention is most of its work
    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    num_classes: int = 1000
    stem: str = "patch"
    conv_mlp: bool = False
    response_norm: bool = False
    layer_scale: float | None = 1e-6
    norm: str = "layer"
    norm_first: bool = False
    head_width: int = 0
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    bn_momentum: float = 0.1
    bn_groups: int = 1
    remat: bool = False
    dtype: DType = jnp.float32

    @property
    def num_features(self) -> int:
        return self.head_width or self.widths[-1]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, output: str = "logits") -> Any:
        """Runs the network.

        Args:
          x: (N, H, W, C) normalised images.
          train: dropout and stochastic depth. Needs the rngs "dropout" and "drop_path"
            where their rates are not zero.
          output: "logits", "embed" or "features".

        Returns:
          float32 logits (N, num_classes); or the pooled, normalised (N, num_features); or the
          list of the four stages' maps.
        """
        require_size(x, at_least=32)
        norm = functools.partial(LayerNorm, 1e-6, self.dtype, self.norm)
        conv = functools.partial(Conv, bias=True, dtype=self.dtype, weight_init=_NORMAL, bias_init=init.zeros)
        x = self._stem(x.astype(self.dtype), conv, norm)
        make_block = functools.partial(
            nn.remat(Block, static_argnums=(2,)) if self.remat else Block,
            conv_mlp=self.conv_mlp,
            response_norm=self.response_norm,
            layer_scale=self.layer_scale,
            norm=self.norm,
            dtype=self.dtype,
        )
        maps = []
        rates = linear_rates(self.drop_path_rate, self.depths)
        for s, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            if s > 0:
                x = norm(name=f"stages.{s}.downsample.0")(x)
                x = conv(width, 2, stride=2, name=f"stages.{s}.downsample.1")(x)
            for b in range(depth):
                x = make_block(drop_path_rate=rates[s][b], name=f"stages.{s}.blocks.{b}")(x, train)
            maps.append(x)
        if output == "features":
            return maps

        x = global_avg_pool(norm(name="norm_pre")(x)) if self.norm_first else norm(name="head.norm")(global_avg_pool(x))
        linear = functools.partial(Linear, dtype=self.dtype, weight_init=_NORMAL, bias_init=init.zeros)
        if self.head_width:
            x = gelu(linear(self.head_width, name="head.pre_logits.fc")(x))
        if output == "embed":
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return linear(self.num_classes, wide=True, name="head.fc")(x)

    def _stem(self, x: jax.Array, conv: Any, norm: Any) -> jax.Array:
        width = self.widths[0]
        if self.stem == "patch":
            x = conv(width, 4, stride=4, name="stem.0")(x)
            return norm(name="stem.1")(x)
        # timm's numbering counts the activation.
        first = (width // 2 + 4) // 8 * 8 if self.stem == "overlap_tiered" else width
        act = self.stem == "overlap_act"
        x = conv(first, 3, stride=2, padding=1, name="stem.0")(x)
        x = gelu(x) if act else x
        x = conv(width, 3, stride=2, padding=1, name=f"stem.{1 + act}")(x)
        return norm(name=f"stem.{2 + act}")(x)


_ZEPTO: dict[str, Any] = {"depths": (2, 2, 4, 2), "widths": (32, 64, 128, 256), "conv_mlp": True}
_ATTO: dict[str, Any] = {"depths": (2, 2, 6, 2), "widths": (40, 80, 160, 320), "conv_mlp": True}
_FEMTO: dict[str, Any] = {"depths": (2, 2, 6, 2), "widths": (48, 96, 192, 384), "conv_mlp": True}
_PICO: dict[str, Any] = {"depths": (2, 2, 6, 2), "widths": (64, 128, 256, 512), "conv_mlp": True}
_NANO: dict[str, Any] = {"depths": (2, 2, 8, 2), "widths": (80, 160, 320, 640), "conv_mlp": True}
_TINY: dict[str, Any] = {"depths": (3, 3, 9, 3), "widths": (96, 192, 384, 768)}
_SMALL: dict[str, Any] = {"depths": (3, 3, 27, 3), "widths": (96, 192, 384, 768)}
_BASE: dict[str, Any] = {"depths": (3, 3, 27, 3), "widths": (128, 256, 512, 1024)}
_LARGE: dict[str, Any] = {"depths": (3, 3, 27, 3), "widths": (192, 384, 768, 1536)}
_SIZES = {
    "atto": _ATTO, "femto": _FEMTO, "pico": _PICO, "nano": _NANO,
    "tiny": _TINY, "small": _SMALL, "base": _BASE, "large": _LARGE,
}  # fmt: skip

# name -> keyword arguments of ConvNeXt.
VARIANTS: dict[str, dict[str, Any]] = {
    **{f"convnext_{size}": arguments for size, arguments in _SIZES.items()},
    "convnext_zepto_rms": _ZEPTO | {"norm": "simple"},
    "convnext_zepto_rms_ols": _ZEPTO | {"norm": "simple", "stem": "overlap_act"},
    "convnext_atto_ols": _ATTO | {"stem": "overlap_tiered"},
    "convnext_atto_rms": _ATTO | {"norm": "rms"},
    "convnext_femto_ols": _FEMTO | {"stem": "overlap_tiered"},
    "convnext_pico_ols": _PICO | {"stem": "overlap_tiered"},
    "convnext_nano_ols": _NANO | {"stem": "overlap"},
    "convnext_tiny_hnf": _TINY | {"norm_first": True, "conv_mlp": True},
    "convnext_large_mlp": _LARGE | {"head_width": 1536},
    **{
        f"convnextv2_{size}": arguments | {"response_norm": True, "layer_scale": None}
        for size, arguments in _SIZES.items()
    },
}

register(ConvNeXt, VARIANTS)
