"""ConvNeXt and ConvNeXt-V2.

Sources: Liu et al. 2022 (arXiv 2201.03545); Woo et al. 2023 (2301.00808) for the global
response normalisation of V2. Names and structure follow timm's ``convnext.py``. Checkpoints
may also have the names of torchvision or of the papers' repositories.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax

from jaxvision.models import initializers as init
from jaxvision.models.classifier import Classifier, LayerGroups
from jaxvision.models.layers import Conv, LayerNorm, Linear, Mlp, drop_path, require_size
from jaxvision.models.registry import register
from jaxvision.models.renaming import State, is_torchvision_sequence, rename, split_torchvision_sequence
from jaxvision.ops.activations import gelu
from jaxvision.ops.dtypes import DType
from jaxvision.ops.pooling import global_avg_pool

_NORMAL = init.truncated_normal(0.02)

# Parameter names of the papers' repositories, and of torchvision after split_torchvision_sequence.
_FROM_PAPERS = (
    (r"downsample_layers\.0\.(.+)", r"stem.\1"),
    (r"downsample_layers\.(\d)\.(.+)", r"stages.\1.downsample.\2"),
    (r"stages\.(\d)\.(\d+)\.dwconv\.(.+)", r"stages.\1.blocks.\2.conv_dw.\3"),
    (r"stages\.(\d)\.(\d+)\.pwconv(\d)\.(.+)", r"stages.\1.blocks.\2.mlp.fc\3.\4"),
    (r"stages\.(\d)\.(\d+)\.grn\.gamma", r"stages.\1.blocks.\2.mlp.grn.weight"),
    (r"stages\.(\d)\.(\d+)\.grn\.beta", r"stages.\1.blocks.\2.mlp.grn.bias"),
    (r"stages\.(\d)\.(\d+)\.(.+)", r"stages.\1.blocks.\2.\3"),
    (r"norm\.(.+)", r"head.norm.\1"),
    (r"head\.(weight|bias)", r"head.fc.\1"),
)
_FROM_TORCHVISION = (
    (r"stage\.(\d)\.(\d+)\.block\.0\.(.+)", r"stages.\1.blocks.\2.conv_dw.\3"),
    (r"stage\.(\d)\.(\d+)\.block\.2\.(.+)", r"stages.\1.blocks.\2.norm.\3"),
    (r"stage\.(\d)\.(\d+)\.block\.3\.(.+)", r"stages.\1.blocks.\2.mlp.fc1.\3"),
    (r"stage\.(\d)\.(\d+)\.block\.5\.(.+)", r"stages.\1.blocks.\2.mlp.fc2.\3"),
    (r"stage\.(\d)\.(\d+)\.layer_scale", r"stages.\1.blocks.\2.gamma"),
    (r"downsample\.(\d)\.(.+)", r"stages.\1.downsample.\2"),
    (r"classifier\.0\.(.+)", r"head.norm.\1"),
    (r"classifier\.2\.(.+)", r"head.fc.\1"),
)


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


class ConvNeXt(Classifier):
    """ConvNeXt over images of at least 32x32 pixels; its maps are those of the four stages, at strides 4 to 32.

    Attributes:
      depths, widths: blocks and channels of each stage.
      stem: "patch" (4x4, stride 4), or two 3x3 of stride 2: "overlap" (equal widths), "overlap_tiered"
        (the first has half the width) and "overlap_act" (with a GELU between them).
      conv_mlp: store the weights of the two layers as 1x1 convolutions.
      response_norm: global response normalisation, of ConvNeXt-V2.
      layer_scale: see :class:`Block`.
      norm: "layer", "rms" or "simple"; see :class:`LayerNorm`.
      norm_first: normalise the last map instead of its mean.
      head_width: width of an additional hidden layer of the classifier; 0 for none.
    """

    layer_groups = LayerGroups(stem="stem", block=r"stages\.(\d+)(?:\.blocks\.(\d+))?", neck="norm_pre")
    # optim_factory.py: stages 0, 1 and 3 whole, stage 2 by three blocks; 12 layers and the stem in S, B and L.
    paper_layer_groups = layer_groups._replace(merged=(0, 0, 3, 0))

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    stem: str = "patch"
    conv_mlp: bool = False
    response_norm: bool = False
    layer_scale: float | None = 1e-6
    norm: str = "layer"
    norm_first: bool = False
    head_width: int = 0

    @property
    def num_features(self) -> int:
        return self.head_width or self.widths[-1]

    @property
    def map_names(self) -> list[str]:
        return [f"stages.{s}" for s in range(len(self.depths))]

    def body(self, x: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """See :class:`Classifier`."""
        require_size(x, at_least=32)
        norm = functools.partial(LayerNorm, 1e-6, self.dtype, self.norm)
        conv = functools.partial(Conv, bias=True, dtype=self.dtype, weight_init=_NORMAL, bias_init=init.zeros)
        x = self._stem(x.astype(self.dtype), conv, norm)
        make_block = functools.partial(
            self.block_class(Block),
            conv_mlp=self.conv_mlp,
            response_norm=self.response_norm,
            layer_scale=self.layer_scale,
            norm=self.norm,
            dtype=self.dtype,
        )
        maps = []
        rates = self.block_rates(self.depths)
        for s, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            if s > 0:
                x = norm(name=f"stages.{s}.downsample.0")(x)
                x = conv(width, 2, stride=2, name=f"stages.{s}.downsample.1")(x)
            for b in range(depth):
                x = make_block(drop_path_rate=rates[s][b], name=f"stages.{s}.blocks.{b}")(x, train)
            maps.append(x)
        return maps, norm(name="norm_pre")(x) if self.norm_first else x

    def head(self, x: jax.Array, train: bool, output: str) -> jax.Array:
        """See :class:`Classifier`."""
        x = global_avg_pool(x)
        if not self.norm_first:
            x = LayerNorm(1e-6, self.dtype, self.norm, name="head.norm")(x)
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
        # timm's numbers count the activation.
        first = (width // 2 + 4) // 8 * 8 if self.stem == "overlap_tiered" else width
        act = self.stem == "overlap_act"
        x = conv(first, 3, stride=2, padding=1, name="stem.0")(x)
        x = gelu(x) if act else x
        x = conv(width, 3, stride=2, padding=1, name=f"stem.{1 + act}")(x)
        return norm(name=f"stem.{2 + act}")(x)

    def to_timm_names(self, state: State) -> tuple[State, list[str]]:
        """Takes the names of the papers' repositories and of torchvision."""
        if "downsample_layers.0.0.weight" in state:
            state = rename(state, _FROM_PAPERS)
        elif is_torchvision_sequence(state):
            state = rename(split_torchvision_sequence(state), _FROM_TORCHVISION)
        else:
            return state, []
        # Both store these vectors with axes of one pixel.
        vectors = (".gamma", ".grn.weight", ".grn.bias")
        return {name: value.reshape(-1) if name.endswith(vectors) else value for name, value in state.items()}, []


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
