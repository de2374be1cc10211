"""Channel gates: squeeze-and-excitation, and what it has become."""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models import initializers as init
from jaxvision.models.layers import BatchNorm, Conv, GroupNorm, conv_norm
from jaxvision.ops.activations import Activation
from jaxvision.ops.backend import target
from jaxvision.ops.convolution import bias_add_act
from jaxvision.ops.dtypes import DType, accumulator
from jaxvision.ops.materialize import materialize_call
from jaxvision.ops.pooling import global_avg_pool

Affine = tuple[jax.Array, jax.Array]
"""A factor and a summand of maps (N, H, W, C) that were not applied yet, each (N, C) or (1, C)."""


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
    """``activation(gate(norm(conv(x))) + add)``, see :func:`conv_norm`.

    In training on a CPU the normalised map is not stored: its means follow from the convolution's, and the gate scales
    the normalisation's coefficients. Of some 20 passes over the map, both ways, this leaves two thirds.
    """
    lazy = train and target() == "cpu" and isinstance(norm, BatchNorm) and norm.dtype == accumulator(norm.dtype)
    if not lazy:
        return gate(conv_norm(x, conv, norm, train=train), add=add, activation=activation)
    y = conv(x)
    each = y.shape[0] // norm.groups if norm.groups > 1 else 1
    factor, summand = (jnp.repeat(part, each, 0) for part in norm.coefficients(y, train=True))
    return gate(y, affine=(factor, summand), add=add, activation=activation)


class Gate(nn.Module):
    """What scales the channels of a map by a function of their means, :meth:`gate`: (N, C) to (N, 1, 1, C)."""

    def __call__(
        self,
        x: jax.Array,
        *,
        affine: Affine | None = None,
        add: jax.Array | None = None,
        activation: Activation | None = None,
    ) -> jax.Array:
        """``activation(x * gate + add)``, or with ``affine`` (a, b) of the map a x + b in ``x``'s place."""
        means, terms = global_avg_pool(x), [] if add is None else [add]
        if affine is None:
            factor = self.gate(means)
        else:
            gate = self.gate(means * affine[0] + affine[1])
            factor, summand = (gate * part[:, None, None] for part in affine)
            terms.insert(0, summand)
        if not terms:
            return bias_add_act(x * factor, None, None, activation)
        # The product inside: outside it would be stored, too.
        return materialize_call(
            lambda x, factor, *terms: bias_add_act(sum(terms, x * factor), None, None, activation), x, factor, *terms
        )


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
