"""Layers shared by every family, and the one place where a convolution is lowered.

Arrays are NHWC. Parameters are float32 and cast to the compute dtype where they
are used; normalisation statistics are always float32. Parameter names are timm's,
so that a parameter path joined with dots is the timm key.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxvision.models import initializers as init

DType = jnp.dtype | type


def accumulator(dtype: DType) -> DType:
    """float32, or wider where the computation is wider: the type of sums, statistics and logits."""
    return jnp.promote_types(dtype, jnp.float32)


def conv2d(x: jax.Array, weight: jax.Array, *, stride: int = 1, padding: int = 0, groups: int = 1) -> jax.Array:
    """Convolves ``x`` (N, H, W, I) with ``weight`` (O, KH, KW, I / groups), zero padded on all sides.

    Every convolution of every model goes through here, so that the formulation is
    chosen per backend in one place, equal in result. XLA on CPU runs a 1x1 convolution
    faster as a matrix product, and a larger one too where the output is small (3x3, 256
    channels, batch 64: 1.1 against 55 ms at 2x2 pixels, 11 against 14 at 7x7; above
    8x8 the convolution wins). On GPU the convolution is what cuDNN fuses, and OHWI
    weights spare a transpose per call.
    """
    kernel = weight.shape[1:3]
    if jax.default_backend() == "cpu" and groups == 1:
        if kernel == (1, 1) and padding == 0:
            x = x[:, ::stride, ::stride] if stride > 1 else x
            return lax.dot_general(x, weight[:, 0, 0], (((3,), (1,)), ((), ())))
        height, width = ((x.shape[i + 1] + 2 * padding - kernel[i]) // stride + 1 for i in (0, 1))
        if height * width <= 64:
            return _patches_product(x, weight, stride, padding, height, width)
    return lax.conv_general_dilated(
        x,
        weight,
        window_strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "OHWI", "NHWC"),
        feature_group_count=groups,
    )


def _patches_product(x: jax.Array, weight: jax.Array, stride: int, padding: int, height: int, width: int) -> jax.Array:
    """The convolution as one matrix product over gathered patches (im2col); ``height`` x ``width`` outputs."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    shifts = [(i, j) for i in range(weight.shape[1]) for j in range(weight.shape[2])]
    patches = jnp.concatenate([x[:, i : i + rows : stride, j : j + columns : stride] for i, j in shifts], -1)
    return lax.dot_general(patches, weight.reshape(weight.shape[0], -1), (((3,), (1,)), ((), ())))


def avg_pool_2x2(x: jax.Array) -> jax.Array:
    """2x2 average pooling, stride 2; a last odd row or column is averaged alone (torch: ceil mode, no pad count)."""
    _, height, width, _ = x.shape
    pads = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
    window, strides = (1, 2, 2, 1), (1, 2, 2, 1)
    zero = np.zeros((), x.dtype)
    total = lax.reduce_window(x, zero, lax.add, window, strides, pads)
    if height % 2 == 0 and width % 2 == 0:
        return total * jnp.asarray(0.25, x.dtype)
    count = lax.reduce_window(jnp.ones((1, height, width, 1), x.dtype), zero, lax.add, window, strides, pads)
    return total / count


def max_pool_3x3(x: jax.Array) -> jax.Array:
    """3x3 max pooling, stride 2, padding 1."""
    # A numpy scalar: JAX recognises the max monoid, and so its gradient, only from a constant.
    lowest = np.array(-np.inf, x.dtype)
    return lax.reduce_window(x, lowest, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))


def global_avg_pool(x: jax.Array) -> jax.Array:
    """Mean over height and width, summed in float32: (N, H, W, C) to (N, C) of ``x``'s dtype."""
    return jnp.mean(x, axis=(1, 2), dtype=accumulator(x.dtype)).astype(x.dtype)


def drop_path(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Stochastic depth (Huang et al. 2016): drops samples of a branch, scales the kept by 1/(1-rate)."""
    keep = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros((), x.dtype)).astype(x.dtype)


class Conv(nn.Module):
    """Convolution with timm's parameter names; see :func:`conv2d`."""

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: bool = False
    dtype: DType = jnp.float32
    weight_law: init.Law = init.kaiming_normal_fan_out
    bias_law: init.Law | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.features, self.kernel, self.kernel, x.shape[-1] // self.groups)
        weight = self.param("weight", init.declare(self.weight_law), shape)
        y = conv2d(
            x.astype(self.dtype),
            weight.astype(self.dtype),
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
        )
        if self.bias:
            law = self.bias_law or init.uniform_fan_in(shape[1] * shape[2] * shape[3])
            y = y + self.param("bias", init.declare(law), (self.features,)).astype(self.dtype)
        return y


class Linear(nn.Module):
    """Fully connected layer; weight (out, in) as in torch."""

    features: int
    dtype: DType = jnp.float32
    weight_law: init.Law | None = None
    bias_law: init.Law | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        default = init.uniform_fan_in(x.shape[-1])
        weight = self.param("weight", init.declare(self.weight_law or default), (self.features, x.shape[-1]))
        bias = self.param("bias", init.declare(self.bias_law or default), (self.features,))
        contract = (((x.ndim - 1,), (1,)), ((), ()))
        wide = accumulator(self.dtype)
        y = lax.dot_general(x.astype(self.dtype), weight.astype(self.dtype), contract, preferred_element_type=wide)
        return y + bias


class BatchNorm(nn.Module):
    """Batch normalisation with torch's conventions, and optional per-device statistics.

    ``running = (1 - momentum) * running + momentum * batch``, with the *unbiased*
    batch variance in ``running_var`` (torch), while the batch is normalised with the
    biased one. Statistics are at least float32, from one pass over the data (E[x^2] - E[x]^2),
    which XLA fuses into one kernel where two passes cost 12 % more traffic.

    Attributes:
      momentum: torch's convention: 0.1 keeps 90 % of the old value.
      groups: the batch is cut into this many equal consecutive parts, each with its
        own statistics; the running values take the mean over the parts. With as many
        groups as devices the statistics are per device and cost no communication.
    """

    eps: float = 1e-5
    momentum: float = 0.1
    groups: int = 1
    dtype: DType = jnp.float32
    scale_law: init.Law = init.ones

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param("weight", init.declare(self.scale_law), (channels,))
        bias = self.param("bias", init.declare(init.zeros), (channels,))
        running_mean = self.variable("batch_stats", "running_mean", lambda: jnp.zeros((channels,), jnp.float32))
        running_var = self.variable("batch_stats", "running_var", lambda: jnp.ones((channels,), jnp.float32))
        wide = accumulator(x.dtype)
        if not train:
            multiplier = scale * lax.rsqrt(running_var.value + self.eps)
            offset = bias - running_mean.value * multiplier
            return (x.astype(wide) * multiplier + offset).astype(self.dtype)

        if x.shape[0] % self.groups:
            raise ValueError(f"batch of {x.shape[0]} cannot be cut into {self.groups} groups of equal size")
        grouped = x.reshape(self.groups, x.shape[0] // self.groups, *x.shape[1:]).astype(wide)
        axes = tuple(range(1, grouped.ndim - 1))
        mean = jnp.mean(grouped, axes)
        var = jnp.maximum(jnp.mean(jnp.square(grouped), axes) - jnp.square(mean), 0.0)
        if not self.is_initializing():
            count = grouped[0, ..., 0].size
            unbiased = var * (count / max(count - 1, 1))
            running_mean.value += self.momentum * (mean.mean(0) - running_mean.value)
            running_var.value += self.momentum * (unbiased.mean(0) - running_var.value)
        multiplier = scale * lax.rsqrt(var + self.eps)
        offset = bias - mean * multiplier
        spread = (self.groups,) + (1,) * len(axes) + (channels,)
        y = grouped * multiplier.reshape(spread) + offset.reshape(spread)
        return y.reshape(x.shape).astype(self.dtype)


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): channel gates from the pooled map, as timm's ``SEModule``.

    Attributes:
      reduced: channels of the bottleneck; :func:`se_channels` computes timm's.
    """

    reduced: int
    dtype: DType = jnp.float32
    weight_law: init.Law = init.kaiming_normal_fan_out
    bias_law: init.Law | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def conv(features: int, name: str) -> Conv:
            return Conv(
                features, 1, bias=True, dtype=self.dtype, weight_law=self.weight_law, bias_law=self.bias_law, name=name
            )

        gate = global_avg_pool(x)[:, None, None]
        gate = nn.relu(conv(self.reduced, "fc1")(gate))
        gate = conv(x.shape[-1], "fc2")(gate)
        return x * nn.sigmoid(gate)


def se_channels(channels: int, ratio: float, divisor: int = 8) -> int:
    """Bottleneck width: ``channels * ratio`` rounded to a multiple of ``divisor``, at least one (timm)."""
    return max(divisor, int(channels * ratio + divisor / 2) // divisor * divisor)


def linear_rates(rate: float, depths: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """Stochastic-depth rates that rise linearly from 0 to ``rate`` over all blocks: rate * i / (L - 1)."""
    total = sum(depths)
    flat = [rate * i / max(total - 1, 1) for i in range(total)]
    starts = [sum(depths[:s]) for s in range(len(depths))]
    return tuple(tuple(flat[start : start + depth]) for start, depth in zip(starts, depths, strict=True))
