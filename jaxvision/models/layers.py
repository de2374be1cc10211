"""Layers shared by every family.

Arrays are NHWC. Parameters are float32 and cast to the compute dtype where they
are used; normalisation statistics are always float32. Parameter names are timm's,
so that a parameter path joined with dots is the timm key.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.errors import UserError
from jaxvision.models import initializers as init
from jaxvision.ops.activations import Activation, gelu
from jaxvision.ops.convolution import bias_add_act, conv2d
from jaxvision.ops.dtypes import DType, accumulator
from jaxvision.ops.materialize import materialize_call
from jaxvision.ops.matmul import linear
from jaxvision.ops.normalization import layer_norm
from jaxvision.ops.scale_shift import ScaleShift


def drop_path(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Stochastic depth (Huang et al. 2016): drops samples of a branch, scales the kept by 1/(1-rate)."""
    keep = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(keep, x / (1.0 - rate), jnp.zeros((), x.dtype)).astype(x.dtype)


class Conv(nn.Module):
    """Convolution with timm's parameter names; see :func:`~jaxvision.ops.convolution.conv2d`.

    Called with ``add`` and ``activation`` it computes ``activation(conv(x) + bias + add)``.
    A bias is also added where the variables have one that the module did not declare:
    :func:`jaxvision.fuse` adds it for a folded normalisation. It is added in the compute
    dtype, because cuDNN fuses nothing else.
    """

    features: int
    kernel: int
    stride: int = 1
    padding: int | str = 0
    groups: int = 1
    bias: bool = False
    dtype: DType = jnp.float32
    weight_init: init.Initializer = init.kaiming_normal_fan_out
    bias_init: init.Initializer | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, *, add: jax.Array | None = None, activation: Activation | None = None
    ) -> jax.Array:
        shape = (self.features, self.kernel, self.kernel, x.shape[-1] // self.groups)
        weight = self.param("weight", init.declare(self.weight_init), shape)
        bias = None
        if self.bias or (not self.is_initializing() and self.has_variable("params", "bias")):
            initializer = self.bias_init or init.uniform_fan_in(shape[1] * shape[2] * shape[3])
            bias = self.param("bias", init.declare(initializer), (self.features,)).astype(self.dtype)
        return conv2d(
            x.astype(self.dtype),
            weight.astype(self.dtype),
            bias,
            add,
            activation,
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
        )


class Linear(nn.Module):
    """Fully connected layer; weight (out, in) as in torch.

    Attributes:
      conv: store the weight as a 1x1 convolution's, (out, 1, 1, in).
      wide: return float32 (classifiers), not the compute dtype.
    """

    features: int
    dtype: DType = jnp.float32
    bias: bool = True
    weight_init: init.Initializer | None = None
    bias_init: init.Initializer | None = None
    conv: bool = False
    wide: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        default = init.uniform_fan_in(x.shape[-1])
        shape = (self.features, 1, 1, x.shape[-1]) if self.conv else (self.features, x.shape[-1])
        weight = self.param("weight", init.declare(self.weight_init or default), shape)
        weight = weight.reshape(self.features, x.shape[-1])
        bias = self.param("bias", init.declare(self.bias_init or default), (self.features,)) if self.bias else None
        return linear(x.astype(self.dtype), weight, bias, accumulator(self.dtype) if self.wide else self.dtype)


class Projections(nn.Module):
    """Fully connected layers of one input whose weights are stored as one (parts * features, in): attention's q, k, v.

    Each is a matmul. Slices of one matmul's result would be copied, which on a GPU is a kernel and 10 MB each in a
    DeiT-S at batch 32; XLA joins the matmuls again where that is cheaper.

    Attributes:
      features: outputs of each layer.
      parts: how many layers.
    """

    features: int
    parts: int
    dtype: DType = jnp.float32
    weight_init: init.Initializer | None = None
    bias_init: init.Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        default = init.uniform_fan_in(x.shape[-1])
        total = self.parts * self.features
        weight = self.param("weight", init.declare(self.weight_init or default), (total, x.shape[-1]))
        bias = self.param("bias", init.declare(self.bias_init or default), (total,))
        x = x.astype(self.dtype)
        parts = zip(jnp.split(weight, self.parts), jnp.split(bias, self.parts), strict=True)
        return [linear(x, w, b, self.dtype) for w, b in parts]


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, statistics in float32.

    Attributes:
      kind: "layer"; "rms": x / sqrt(mean(x^2) + eps), no bias; "simple": the same with the
        unbiased variance of x, as timm's ``SimpleNorm``.
    """

    eps: float = 1e-6
    dtype: DType = jnp.float32
    kind: str = "layer"
    scale_init: init.Initializer = init.ones

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("weight", init.declare(self.scale_init), (x.shape[-1],))
        wide = x.astype(accumulator(x.dtype))
        if self.kind == "rms":
            wide = wide * lax.rsqrt(jnp.mean(jnp.square(wide), -1, keepdims=True) + self.eps)
            return (wide * scale).astype(self.dtype)
        if self.kind == "simple":
            centred = wide - jnp.mean(wide, -1, keepdims=True)
            variance = jnp.sum(jnp.square(centred), -1, keepdims=True) / (x.shape[-1] - 1)
            return (wide * lax.rsqrt(variance + self.eps) * scale).astype(self.dtype)
        bias = self.param("bias", init.declare(init.zeros), (x.shape[-1],))
        return layer_norm(x, scale, bias, self.eps, self.dtype)


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018); called like :class:`BatchNorm`, the same in training and evaluation."""

    group_size: int = 0
    num_groups: int = 0
    eps: float = 1e-5
    dtype: DType = jnp.float32
    scale_init: init.Initializer = init.ones

    @nn.compact
    def __call__(
        self, x: jax.Array, add: jax.Array | None = None, activation: Activation | None = None, *, train: bool
    ) -> jax.Array:
        n, channels = x.shape[0], x.shape[-1]
        scale = self.param("weight", init.declare(self.scale_init), (channels,))
        bias = self.param("bias", init.declare(init.zeros), (channels,))
        groups = self.num_groups or channels // self.group_size
        wide = x.reshape(n, -1, groups, channels // groups).astype(accumulator(x.dtype))
        centred = wide - jnp.mean(wide, (1, 3), keepdims=True)
        variance = jnp.mean(jnp.square(centred), (1, 3), keepdims=True)
        y = (centred * lax.rsqrt(variance + self.eps)).reshape(x.shape)
        return bias_add_act((y * scale + bias).astype(self.dtype), None, add, activation)


class BatchNorm(nn.Module):
    """Batch normalisation with torch's conventions, and optional per-device statistics.

    ``running = (1 - momentum) * running + momentum * batch``, with the *unbiased*
    batch variance in ``running_var`` (torch), while the batch is normalised with the
    biased one. Statistics are at least float32, from one pass over the data (E[x^2] - E[x]^2),
    which XLA fuses into one kernel where two passes cost 12 % more traffic.

    Attributes:
      momentum: torch's convention: 0.1 keeps 90 % of the old value.
      groups: the batch is split into this many consecutive groups of equal size, each with
        its own statistics; the running values take the mean over the groups. With as many
        groups as devices the statistics are per device and cost no communication.
    """

    eps: float = 1e-5
    momentum: float = 0.1
    groups: int = 1
    dtype: DType = jnp.float32
    scale_init: init.Initializer = init.ones

    def __call__(
        self, x: jax.Array, add: jax.Array | None = None, activation: Activation | None = None, *, train: bool
    ) -> jax.Array:
        if self.folded(train):
            return bias_add_act(x, None, add, activation)
        # Here, so that the gradients of its two uses are summed before they are rounded to a narrower dtype.
        x = x.astype(accumulator(x.dtype))
        scale, shift = self.coefficients(x, train=train)
        if not train:
            return bias_add_act(self._normalized(x, scale, shift), None, add, activation)
        if activation is None and add is None:
            return self._normalized(x, scale, shift)

        def normalized(x: jax.Array, scale: jax.Array, shift: jax.Array, add: jax.Array | None = None) -> jax.Array:
            y = self._normalized(x, scale, shift)
            return bias_add_act(y if add is None else y + add, None, None, activation)

        # Materialized: the gradient of the convolution that comes next transposes it, at half the speed where it has to
        # compute it as well.
        return materialize_call(normalized, x, scale, shift, *([] if add is None else [add]))

    def _normalized(self, x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
        """``scale x + shift`` with the coefficients of each group, (groups, C)."""
        grouped = x.reshape(len(scale), -1, *x.shape[1:])
        broadcast = (len(scale),) + (1,) * (x.ndim - 1) + (x.shape[-1],)
        y = grouped * scale.reshape(broadcast) + shift.reshape(broadcast)
        return y.reshape(x.shape).astype(self.dtype)

    @nn.compact
    def coefficients(self, x: jax.Array, *, train: bool) -> ScaleShift:
        """The normalisation of each group as a scale and a shift, (groups, C) each; (1, C) in evaluation.

        In training the statistics are those of ``x``, and the running statistics are updated.
        """
        channels = x.shape[-1]
        scale = self.param("weight", init.declare(self.scale_init), (channels,))
        bias = self.param("bias", init.declare(init.zeros), (channels,))
        running_mean = self.variable("batch_stats", "running_mean", lambda: jnp.zeros((channels,), jnp.float32))
        running_var = self.variable("batch_stats", "running_var", lambda: jnp.ones((channels,), jnp.float32))
        if not train:
            factor = scale * lax.rsqrt(running_var.value + self.eps)
            return ScaleShift(factor[None], (bias - running_mean.value * factor)[None])

        if x.shape[0] % self.groups:
            raise ValueError(f"batch of {x.shape[0]} cannot be split into {self.groups} groups of equal size")
        grouped = x.reshape(self.groups, x.shape[0] // self.groups, *x.shape[1:]).astype(accumulator(x.dtype))
        axes = tuple(range(1, grouped.ndim - 1))
        mean = jnp.mean(grouped, axes)
        var = jnp.maximum(jnp.mean(jnp.square(grouped), axes) - jnp.square(mean), 0.0)
        if not self.is_initializing():
            count = grouped[0, ..., 0].size
            unbiased = var * (count / max(count - 1, 1))
            running_mean.value += self.momentum * (mean.mean(0) - running_mean.value)
            running_var.value += self.momentum * (unbiased.mean(0) - running_var.value)
        factor = scale * lax.rsqrt(var + self.eps)
        return ScaleShift(factor, bias - mean * factor)

    def folded(self, train: bool) -> bool:
        """Whether :func:`jaxvision.fuse` removed the variables.

        Raises:
          ValueError: it did, and training needs them.
        """
        gone = not self.is_initializing() and not self.has_variable("params", "weight")
        if gone and train:
            raise ValueError("a fused model cannot be trained: its normalisation is folded into the convolutions")
        return gone


def conv_norm(
    x: jax.Array,
    conv: Conv,
    norm: BatchNorm | GroupNorm,
    *,
    train: bool,
    add: jax.Array | None = None,
    activation: Activation | None = None,
) -> jax.Array:
    """``activation(norm(conv(x)) + add)``; in a fused model one call of the convolution, which may fuse the rest.

    Args:
      x: (N, H, W, I).
      conv, norm: the layers, with their names.
      train: see :class:`BatchNorm`.
      add: (N, H', W', O), a residual block's shortcut.
      activation: elementwise.

    Returns:
      (N, H', W', O).
    """
    if isinstance(norm, BatchNorm) and norm.folded(train):
        return conv(x, add=add, activation=activation)
    return norm(conv(x), add, activation, train=train)


class Mlp(nn.Module):
    """Two layers with a GELU between them, on tokens.

    Maps are flattened to (tokens, channels): with four axes XLA:GPU splits the GELU into two
    kernels, a quarter more traffic in a ConvNeXt.

    Attributes:
      hidden: width between the layers.
      conv: store the weights as 1x1 convolutions, as timm's ``conv_mlp``.
      response_norm: ConvNeXt-V2's global response normalisation before the second layer.
      approximate: the approximation of the GELU by tanh (big_vision), not the exact GELU.
    """

    hidden: int
    dtype: DType = jnp.float32
    weight_init: init.Initializer = init.truncated_normal(0.02)
    conv: bool = False
    response_norm: bool = False
    approximate: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape
        x = self._layer(x.reshape(-1, shape[-1]), self.hidden, "fc1")
        x = nn.gelu(x, approximate=True) if self.approximate else gelu(x)
        if self.response_norm:
            x = ResponseNorm(self.dtype, name="grn")(x.reshape(*shape[:-1], -1)).reshape(-1, self.hidden)
        return self._layer(x, shape[-1], "fc2").reshape(shape)

    def _layer(self, x: jax.Array, features: int, name: str) -> jax.Array:
        initializer = self.weight_init
        return Linear(features, self.dtype, weight_init=initializer, bias_init=init.zeros, conv=self.conv, name=name)(x)


class ResponseNorm(nn.Module):
    """Global response normalisation (Woo et al. 2023, arXiv 2301.00808) over maps (N, H, W, C)."""

    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("weight", init.declare(init.zeros), (x.shape[-1],))
        bias = self.param("bias", init.declare(init.zeros), (x.shape[-1],))
        total = jnp.sum(jnp.square(x.astype(accumulator(x.dtype))), (1, 2), keepdims=True)
        # Of a channel that is zero everywhere the norm's gradient is zero, as in torch; that of sqrt would be infinite.
        norm = jnp.where(total > 0, jnp.sqrt(jnp.where(total > 0, total, 1.0)), 0.0)
        relative = norm / (jnp.mean(norm, -1, keepdims=True) + 1e-6)
        return (x * (1 + scale * relative) + bias).astype(self.dtype)


def require_size(x: jax.Array, *, at_least: int = 1, exactly: tuple[int, int] | None = None, multiple: int = 1) -> None:
    """Raises a ``UserError`` that names the image sizes a network accepts, where ``x`` (N, H, W, C) is of another."""
    height, width = x.shape[1:3]
    if exactly is not None and (height, width) != exactly:
        raise UserError(
            f"this model is built for images of {exactly[0]}x{exactly[1]} pixels, got {height}x{width}. Resize the "
            f"images, or the model: create_model(name, image_size=({height}, {width}), ...) or "
            f"model.with_image_size(({height}, {width}))"
        )
    if min(height, width) < at_least or height % multiple or width % multiple:
        rule = f" and multiples of {multiple}" if multiple > 1 else ""
        raise UserError(f"expected images of at least {at_least}x{at_least} pixels{rule}, got {height}x{width}")
