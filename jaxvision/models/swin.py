"""Swin transformer, V1 and V2.

Sources: Liu et al. 2021 (arXiv 2103.14030) and 2022 (2111.09883) for V2; window sizes of
the S3 variants from Chen et al. 2021 (2111.14725). Names and structure follow timm's
``swin_transformer.py`` and ``swin_transformer_v2.py``. Checkpoints may also have the names of
torchvision or of the papers' repository.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.models import initializers as init
from jaxvision.models.attention import Attention, relative_position_bias
from jaxvision.models.classifier import Classifier, LayerGroups
from jaxvision.models.layers import Conv, LayerNorm, Linear, Mlp, drop_path, require_size
from jaxvision.models.position_tables import Size, resize_relative_position_table
from jaxvision.models.registry import register
from jaxvision.models.renaming import State, is_torchvision_sequence, rename, split_torchvision_sequence
from jaxvision.ops.attention import dot_product_attention
from jaxvision.ops.dtypes import DType, accumulator
from jaxvision.ops.pooling import global_avg_pool

PATCH = 4
_NORMAL = init.truncated_normal(0.02)

# Parameter names of torchvision, after split_torchvision_sequence.
_FROM_TORCHVISION = (
    (r"stem\.0\.(.+)", r"patch_embed.proj.\1"),
    (r"stem\.2\.(.+)", r"patch_embed.norm.\1"),
    (r"stage\.(\d)\.(\d+)\.mlp\.0\.(.+)", r"layers.\1.blocks.\2.mlp.fc1.\3"),
    (r"stage\.(\d)\.(\d+)\.mlp\.3\.(.+)", r"layers.\1.blocks.\2.mlp.fc2.\3"),
    (r"stage\.(\d)\.(\d+)\.(.+)", r"layers.\1.blocks.\2.\3"),
    (r"downsample\.(\d)\.(.+)", r"layers.\1.downsample.\2"),
    (r"head\.(weight|bias)", r"head.fc.\1"),
)
# The papers' repository merges patches at the end of a stage, timm at the start of the next one.
_FROM_PAPERS = (
    *((rf"layers\.{stage}\.downsample\.(.+)", rf"layers.{stage + 1}.downsample.\1") for stage in range(3)),
    (r"head\.(weight|bias)", r"head.fc.\1"),
)
_BIAS_TABLE = "relative_position_bias_table"
# Arrays of checkpoints that this module computes, because they follow from the architecture.
_COMPUTED = ("relative_position_index", "attn_mask", "relative_coords_table")


class WindowAttention(Attention):
    """Attention within windows, with a learned bias per offset and, where windows are shifted, a mask."""

    window: Size = (7, 7)

    @nn.compact
    def __call__(self, x: jax.Array, mask: np.ndarray | None) -> jax.Array:
        """Maps (N, windows, tokens, C) to the same shape; ``mask`` is (windows, tokens, tokens) or None."""
        offsets = (2 * self.window[0] - 1) * (2 * self.window[1] - 1)
        table = self.param(_BIAS_TABLE, init.declare(_NORMAL), (offsets, self.heads))
        bias = relative_position_bias(table, self.window)
        if mask is not None:
            bias = bias + jnp.asarray(mask, bias.dtype)[:, None]
        return Attention.__call__(self, x, bias)


class CosineWindowAttention(nn.Module):
    """V2's attention within windows: cosines with a learned scale, and a bias computed from the offsets.

    Attributes:
      window: (height, width) in pixels of the map.
      trained_window: side of the window for which the weights were trained, which scales the offsets; 0 for ``window``.
    """

    heads: int
    dtype: DType
    window: Size
    trained_window: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: np.ndarray | None) -> jax.Array:
        """As :class:`WindowAttention`."""
        width = x.shape[-1]
        linear = functools.partial(Linear, dtype=self.dtype, weight_init=_NORMAL, bias_init=init.zeros)
        qkv = linear(3 * width, bias=False, name="qkv")(x)
        biases = [self.param(name, init.declare(init.zeros), (width,)) for name in ("q_bias", "v_bias")]
        qkv = qkv + jnp.concatenate([biases[0], jnp.zeros_like(biases[0]), biases[1]]).astype(self.dtype)
        q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:-1], 3, self.heads, width // self.heads), -3, 0)
        scale = self.param("logit_scale", init.declare(init.constant(math.log(10))), (self.heads, 1, 1))
        scale = jnp.exp(jnp.minimum(scale, math.log(100.0)))[:, :, 0]
        q, k = _unit(q) * scale.astype(self.dtype), _unit(k)

        table = linear(512, name="cpb_mlp.0")(jnp.asarray(self._offsets(), self.dtype))
        table = linear(self.heads, bias=False, wide=True, name="cpb_mlp.2")(nn.relu(table))
        bias = 16 * nn.sigmoid(relative_position_bias(table, self.window))
        if mask is not None:
            bias = bias + jnp.asarray(mask, bias.dtype)[:, None]
        return linear(width, name="proj")(dot_product_attention(q, k, v, bias, scale=1.0).reshape(x.shape))

    def _offsets(self) -> np.ndarray:
        """((2H - 1) (2W - 1), 2): offsets on a logarithmic scale, 8 at the trained window's border (equation 4)."""
        axes = []
        for side in self.window:
            reach = max((self.trained_window or side) - 1, 1)
            offset = np.arange(1 - side, side, dtype=np.float32) / reach * 8
            axes.append(np.sign(offset) * np.log2(np.abs(offset) + 1) / np.log2(8))
        return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)


def _unit(x: jax.Array) -> jax.Array:
    """Vectors of the last axis at length 1; zero stays zero (torch's ``normalize``)."""
    wide = x.astype(accumulator(x.dtype))
    square = jnp.sum(jnp.square(wide), -1, keepdims=True)
    return (wide * jax.lax.rsqrt(jnp.maximum(square, 1e-24))).astype(x.dtype)


class Block(nn.Module):
    """Window attention and an MLP, each with its normalisation before (V1) or after it (V2) and a shortcut.

    Attributes:
      window: (height, width) of the attention's windows, at most the map's.
      shift: (rows, columns) by which the map is rolled before it is split into windows.
      trained_window: None for V1; see :class:`CosineWindowAttention`.
      drop_path_rate: probability with which a sample skips each of the two branches in training.
    """

    heads: int
    window: Size
    shift: Size
    trained_window: int | None
    drop_path_rate: float
    dtype: DType

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        mlp = Mlp(4 * x.shape[-1], self.dtype, name="mlp")
        if self.trained_window is None:
            norm = functools.partial(LayerNorm, 1e-5, self.dtype)
            x = x + self._dropped(self._attend(norm(name="norm1")(x)), train)
            return x + self._dropped(mlp(norm(name="norm2")(x)), train)
        # Each branch is zero at the start: the scale of its normalisation is.
        norm = functools.partial(LayerNorm, 1e-5, self.dtype, scale_init=init.zeros)
        x = x + self._dropped(norm(name="norm1")(self._attend(x)), train)
        return x + self._dropped(norm(name="norm2")(mlp(x)), train)

    def _attend(self, x: jax.Array) -> jax.Array:
        n, height, width, channels = x.shape
        (rows, columns), shift = self.window, self.shift
        if any(shift):
            x = jnp.roll(x, (-shift[0], -shift[1]), (1, 2))
        x = jnp.pad(x, ((0, 0), (0, -height % rows), (0, -width % columns), (0, 0)))
        padded = x.shape[1:3]
        down, across = padded[0] // rows, padded[1] // columns
        x = x.reshape(n, down, rows, across, columns, channels).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(n, down * across, rows * columns, channels)
        mask = shift_mask(padded, self.window, shift) if any(shift) else None
        if self.trained_window is None:
            x = WindowAttention(self.heads, self.dtype, window=self.window, name="attn")(x, mask)
        else:
            attention = CosineWindowAttention(self.heads, self.dtype, self.window, self.trained_window, name="attn")
            x = attention(x, mask)
        x = x.reshape(n, down, across, rows, columns, channels).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(n, *padded, channels)[:, :height, :width]
        return jnp.roll(x, shift, (1, 2)) if any(shift) else x

    def _dropped(self, x: jax.Array, train: bool) -> jax.Array:
        if not (train and self.drop_path_rate):
            return x
        return drop_path(x, self.drop_path_rate, self.make_rng("drop_path"))


def shift_mask(size: Size, window: Size, shift: Size) -> np.ndarray:
    """What the attention of rolled windows adds to its scores: -100 between pixels that were not neighbours, else 0.

    Args:
      size: (height, width) of the map, multiples of the window's.
      window: (height, width).
      shift: (rows, columns) by which the map was rolled.

    Returns:
      (windows, tokens, tokens), float32.
    """

    def regions(n: int, w: int, s: int) -> np.ndarray:
        place = np.arange(n)
        return (place >= n - w).astype(int) + (place >= n - s if s else place < 0)

    label = 3 * regions(size[0], window[0], shift[0])[:, None] + regions(size[1], window[1], shift[1])
    down, across = size[0] // window[0], size[1] // window[1]
    label = label.reshape(down, window[0], across, window[1]).transpose(0, 2, 1, 3).reshape(down * across, -1)
    return np.where(label[:, :, None] == label[:, None], 0, -100).astype(np.float32)


class Merge(nn.Module):
    """Downsampling: concatenates the channels of 2x2 pixels and projects them to half, (N, H/2, W/2, 2 C).

    Attributes:
      norm_last: whether to normalise after the projection (V2) or before it (V1).
    """

    norm_last: bool
    dtype: DType

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, height, width, channels = x.shape
        x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        x = x.reshape(n, (height + 1) // 2, 2, (width + 1) // 2, 2, channels)
        # The order of the published weights: column before row.
        x = x.transpose(0, 1, 3, 4, 2, 5).reshape(n, (height + 1) // 2, (width + 1) // 2, 4 * channels)
        norm = LayerNorm(1e-5, self.dtype, name="norm")
        reduction = Linear(2 * channels, self.dtype, bias=False, weight_init=_NORMAL, name="reduction")
        return norm(reduction(x)) if self.norm_last else reduction(norm(x))


class Swin(Classifier):
    """Swin transformer over images of one size; its maps are those of the four stages, at strides 4, 8, 16 and 32.

    Attributes:
      depths, heads: blocks and attention heads of each stage.
      width: channels of the first stage; each stage has twice those of the one before.
      window_size: of each stage, (height, width) or one number for both; clipped to the map.
      trained_windows: of each stage, for V2; None for V1. See :class:`CosineWindowAttention`.
      image_size: (height, width) in pixels, multiples of 4.
    """

    layer_groups = LayerGroups(stem="patch_embed", block=r"layers\.(\d+)(?:\.blocks\.(\d+))?", neck="norm")
    attends = True

    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    width: int = 96
    window_size: tuple[int | Size, ...] = (7, 7, 7, 7)
    trained_windows: tuple[int, int, int, int] | None = None
    image_size: Size = (224, 224)

    @property
    def num_features(self) -> int:
        return 8 * self.width

    def windows(self, stage: int) -> tuple[Size, Size]:
        """A stage's window, and the shift of every second block: none where the window covers the map."""
        size = [side // PATCH for side in self.image_size]
        for _ in range(stage):
            size = [(side + 1) // 2 for side in size]
        wanted = self.window_size[stage]
        wanted = (wanted, wanted) if isinstance(wanted, int) else wanted
        window = tuple(min(side, w) for side, w in zip(size, wanted, strict=True))
        shift = tuple(0 if side <= w else w // 2 for side, w in zip(size, wanted, strict=True))
        return window, shift  # type: ignore[return-value]

    @property
    def map_names(self) -> list[str]:
        return [f"layers.{s}" for s in range(len(self.depths))]

    def body(self, x: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """See :class:`Classifier`."""
        require_size(x, at_least=32, exactly=self.image_size, multiple=PATCH)
        x = Conv(
            self.width,
            PATCH,
            stride=PATCH,
            bias=True,
            dtype=self.dtype,
            weight_init=init.uniform_fan_in(PATCH * PATCH * x.shape[-1]),
            name="patch_embed.proj",
        )(x.astype(self.dtype))
        x = LayerNorm(1e-5, self.dtype, name="patch_embed.norm")(x)
        make_block = self.block_class(Block)
        maps = []
        rates = self.block_rates(self.depths)
        for s, depth in enumerate(self.depths):
            if s > 0:
                x = Merge(self.trained_windows is not None, self.dtype, name=f"layers.{s}.downsample")(x)
            window, shift = self.windows(s)
            for b in range(depth):
                x = make_block(
                    heads=self.heads[s],
                    window=window,
                    shift=shift if b % 2 else (0, 0),
                    trained_window=None if self.trained_windows is None else self.trained_windows[s],
                    drop_path_rate=rates[s][b],
                    dtype=self.dtype,
                    name=f"layers.{s}.blocks.{b}",
                )(x, train)
            maps.append(x)
        return maps, LayerNorm(1e-5, self.dtype, name="norm")(x)

    def head(self, x: jax.Array, train: bool, output: str) -> jax.Array:
        """See :class:`Classifier`."""
        x = global_avg_pool(x)
        if output == "embed":
            return x
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return Linear(
            self.num_classes, self.dtype, weight_init=_NORMAL, bias_init=init.zeros, wide=True, name="head.fc"
        )(x)

    def with_image_size(self, params: dict[str, Any], size: Size) -> tuple[Swin, dict[str, Any]]:
        """Windows keep their share of the map, as with timm's ``set_input_size``; V1's bias tables are resampled."""

        def scaled(window: int | Size) -> Size:
            pair = (window, window) if isinstance(window, int) else window
            rows, columns = (
                max(1, w * (new // PATCH) // (old // PATCH))
                for w, new, old in zip(pair, size, self.image_size, strict=True)
            )
            return rows, columns

        new = self.clone(image_size=size, window_size=tuple(map(scaled, self.window_size)))
        result = dict(params)
        for name, block in params.items():
            if ".blocks." in name and _BIAS_TABLE in block["attn"]:
                stage = int(name.split(".")[1])
                table = np.asarray(block["attn"][_BIAS_TABLE])
                table = resize_relative_position_table(table, self.windows(stage)[0], new.windows(stage)[0])
                result[name] = {**block, "attn": {**block["attn"], _BIAS_TABLE: jnp.asarray(table)}}
        return new, result

    def resampled(self, name: str, table: np.ndarray) -> tuple[np.ndarray, str] | None:
        """V1's bias tables, of square windows."""
        match = re.fullmatch(rf"layers\.(\d)\.blocks\.(\d+)\.attn\.{_BIAS_TABLE}", name)
        if not match or table.ndim != 2 or table.shape[1] != self.heads[int(match[1])]:
            return None
        side = (round(table.shape[0] ** 0.5) + 1) // 2
        if (2 * side - 1) ** 2 != table.shape[0]:
            return None
        new = self.windows(int(match[1]))[0]
        note = f"{name} resampled from windows of {side}x{side} to {new[0]}x{new[1]}"
        return resize_relative_position_table(table, (side, side), new), note

    def to_timm_names(self, state: State) -> tuple[State, list[str]]:
        """Takes the names of the papers' repository and of torchvision."""
        state = {name: value for name, value in state.items() if not name.endswith(_COMPUTED)}
        if "layers.0.downsample.reduction.weight" in state:
            return rename(state, _FROM_PAPERS), []
        if is_torchvision_sequence(state):
            return rename(split_torchvision_sequence(state), _FROM_TORCHVISION), []
        return state, []


_TINY: dict[str, Any] = {"depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)}
_SMALL: dict[str, Any] = {"depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24)}
_BASE: dict[str, Any] = {"depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32), "width": 128}
_LARGE: dict[str, Any] = {"depths": (2, 2, 18, 2), "heads": (6, 12, 24, 48), "width": 192}
_384: dict[str, Any] = {"window_size": (12,) * 4, "image_size": (384, 384)}


def _v2(window: int, pixels: int, trained: tuple[int, int, int, int] = (0, 0, 0, 0)) -> dict[str, Any]:
    return {"window_size": (window,) * 4, "image_size": (pixels, pixels), "trained_windows": trained}


_12 = (12, 12, 12, 6)  # windows at 192 pixels, the last of them clipped to the map

# name -> keyword arguments of Swin.
VARIANTS: dict[str, dict[str, Any]] = {
    "swin_tiny_patch4_window7_224": _TINY,
    "swin_small_patch4_window7_224": _SMALL,
    "swin_base_patch4_window7_224": _BASE,
    "swin_base_patch4_window12_384": _BASE | _384,
    "swin_large_patch4_window7_224": _LARGE,
    "swin_large_patch4_window12_384": _LARGE | _384,
    "swin_s3_tiny_224": _TINY | {"window_size": (7, 7, 14, 7)},
    "swin_s3_small_224": _SMALL | {"window_size": (14, 14, 14, 7)},
    **{
        f"swinv2_{size}_window{window}_256": arguments | _v2(window, 256)
        for size, arguments in [("tiny", _TINY), ("small", _SMALL), ("base", _BASE)]
        for window in (8, 16)
    },
    **{
        f"swinv2_{size}_window12{suffix}": arguments | v2
        for size, arguments in [("base", _BASE), ("large", _LARGE)]
        for suffix, v2 in [
            ("_192", _v2(12, 192)), ("to16_192to256", _v2(16, 256, _12)), ("to24_192to384", _v2(24, 384, _12)),
        ]
    },
    "swin_s3_base_224": _TINY | {"depths": (2, 2, 30, 2), "window_size": (7, 7, 14, 7)},
}  # fmt: skip

register(Swin, VARIANTS)
