"""Channel gates: squeeze-and-excitation and its successors."""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models import initializers as init
from jaxvision.models.layers import BatchNorm, Conv, GroupNorm, conv_norm
from jaxvision.ops.activations import Activation
from jaxvision.ops.dtypes import DType
from jaxvision.ops.pooling import global_avg_pool
from jaxvision.ops.scale_shift import ScaleShift, defers_normalization, scale_shift


def conv_norm_gate(
    x: jax.Array,
    conv: Conv,
    norm: BatchNorm | GroupNorm,
    gate: Gate,
    *,
    train: bool,
    add: jax.Array,
    activation: Activation,
) -> jax.Array:
    """``activation(gate(norm(conv(x))) + add)``; the arguments are those of :func:`conv_norm`.

    Where :func:`defers_normalization` says so, batch normalisation and gate are applied to the map together.
    """
    if not (train and isinstance(norm, BatchNorm) and defers_normalization(norm.dtype)):
        return gate(conv_norm(x, conv, norm, train=train), add=add, activation=activation)
    y = conv(x)
    # A row for each image, where the batch is normalised in groups.
    images = y.shape[0] // norm.groups if norm.groups > 1 else 1
    pending = ScaleShift(*(jnp.repeat(part, images, 0) for part in norm.coefficients(y, train=True)))
    return gate(y, pending=pending, add=add, activation=activation)


class Gate(nn.Module):
    """Multiplies the channels of a map with a function of their means, :meth:`gate`: (N, C) to (N, 1, 1, C)."""

    def __call__(
        self,
        x: jax.Array,
        *,
        pending: ScaleShift | None = None,
        add: jax.Array | None = None,
        activation: Activation | None = None,
    ) -> jax.Array:
        """``activation(gate x + add)``.

        Args:
          x: (N, H, W, C).
          pending: a normalisation that was not applied to ``x`` yet; the gate is that of ``scale x + shift``.
          add: (N, H, W, C), a residual block's shortcut.
          activation: elementwise.
        """
        means = global_avg_pool(x)
        if pending is None:
            return scale_shift(x, self.gate(means), None, add, activation)
        gate = self.gate(means * pending.scale + pending.shift)
        scale, shift = (gate * part[:, None, None] for part in pending)
        return scale_shift(x, scale, shift, add, activation)


class SqueezeExcite(Gate):
    """Squeeze-and-excitation (Hu et al. 2018): channel gates from the pooled map, as timm's ``SEModule``.

    Attributes:
      reduced: channels of the bottleneck; :func:`se_channels` computes timm's.
      names: of the two 1x1 convolutions.
    """

    reduced: int
    dtype: DType = jnp.float32
    weight_init: init.Initializer = init.kaiming_normal_fan_out
    bias_init: init.Initializer | None = None
    activation: Activation = nn.relu
    names: tuple[str, str] = ("fc1", "fc2")

    @nn.compact
    def gate(self, means: jax.Array) -> jax.Array:
        conv = functools.partial(
            Conv, kernel=1, bias=True, dtype=self.dtype, weight_init=self.weight_init, bias_init=self.bias_init
        )
        hidden = self.activation(conv(self.reduced, name=self.names[0])(means[:, None, None]))
        return nn.sigmoid(conv(means.shape[-1], name=self.names[1])(hidden))


class EfficientChannelAttention(Gate):
    """Channel gates from neighbouring channels' means (Wang et al. 2019, arXiv 1910.03151), as timm's ``EcaModule``."""

    dtype: DType = jnp.float32

    @nn.compact
    def gate(self, means: jax.Array) -> jax.Array:
        channels = means.shape[-1]
        reach = int(abs(math.log2(channels) + 1) / 2)
        size = max(reach if reach % 2 else reach + 1, 3)
        weight = self.param("conv.weight", init.declare(init.uniform_fan_in(size)), (1, 1, size)).astype(self.dtype)
        means = jnp.pad(means, ((0, 0), (size // 2, size // 2)))
        gate = sum(means[:, i : i + channels] * weight[0, 0, i] for i in range(size))
        return nn.sigmoid(gate)[:, None, None]


def se_channels(channels: int, ratio: float, divisor: int = 8) -> int:
    """Bottleneck width: ``channels * ratio`` rounded to a multiple of ``divisor``, at least one (timm)."""
    return max(divisor, int(channels * ratio + divisor / 2) // divisor * divisor)
