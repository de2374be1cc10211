"""Channel gates: squeeze-and-excitation, and what it has become."""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models import initializers as init
from jaxvision.models.activations import Activation
from jaxvision.models.convolution import finished, once, target
from jaxvision.models.dtypes import DType, accumulator
from jaxvision.models.layers import BatchNorm, Conv, GroupNorm, conv_norm
from jaxvision.models.pooling import global_avg_pool

Affine = tuple[jax.Array, jax.Array]
"""A factor and a summand of maps (N, H, W, C) that were not applied yet, each (N, C) or (1, C)."""


def conv_norm_gate(
    x: jax.Array,
    conv: Conv,
    norm: BatchNorm | GroupNorm,
    gate: SqueezeExcite | EfficientChannelAttention,
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


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): channel gates from the pooled map, as timm's ``SEModule``.

    Attributes:
      reduced: channels of the bottleneck; :func:`se_channels` computes timm's.
      names: of the two 1x1 convolutions.
    """

    reduced: int
    dtype: DType = jnp.float32
    weight_law: init.Law = init.kaiming_normal_fan_out
    bias_law: init.Law | None = None
    activation: Activation = nn.relu
    names: tuple[str, str] = ("fc1", "fc2")

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        affine: Affine | None = None,
        add: jax.Array | None = None,
        activation: Activation | None = None,
    ) -> jax.Array:
        """``activation(x * gate + add)``, or with ``affine`` (a, b) of the map a x + b in ``x``'s place."""
        conv = functools.partial(
            Conv, kernel=1, bias=True, dtype=self.dtype, weight_law=self.weight_law, bias_law=self.bias_law
        )
        gate = _means(x, affine)[:, None, None]
        gate = self.activation(conv(self.reduced, name=self.names[0])(gate))
        gate = conv(x.shape[-1], name=self.names[1])(gate)
        return _gated(x, nn.sigmoid(gate), affine, add, activation)


class EfficientChannelAttention(nn.Module):
    """Channel gates from neighbouring channels' means (Wang et al. 2019, arXiv 1910.03151), as timm's ``EcaModule``."""

    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        affine: Affine | None = None,
        add: jax.Array | None = None,
        activation: Activation | None = None,
    ) -> jax.Array:
        """``activation(x * gate + add)``, or with ``affine`` (a, b) of the map a x + b in ``x``'s place."""
        reach = int(abs(math.log2(x.shape[-1]) + 1) / 2)
        size = max(reach if reach % 2 else reach + 1, 3)
        weight = self.param("conv.weight", init.declare(init.uniform_fan_in(size)), (1, 1, size)).astype(self.dtype)
        means = jnp.pad(_means(x, affine), ((0, 0), (size // 2, size // 2)))
        channels = x.shape[-1]
        gate = sum(means[:, i : i + channels] * weight[0, 0, i] for i in range(size))
        return _gated(x, nn.sigmoid(gate)[:, None, None], affine, add, activation)


def _means(x: jax.Array, affine: Affine | None) -> jax.Array:
    means = global_avg_pool(x)
    return means if affine is None else means * affine[0] + affine[1]


def _gated(
    x: jax.Array, gate: jax.Array, affine: Affine | None, add: jax.Array | None, activation: Activation | None
) -> jax.Array:
    if affine is not None:
        factor, summand = (gate * part[:, None, None] for part in affine)
        terms = [summand] if add is None else [summand, add]
        return once(
            lambda x, factor, *terms: finished(sum(terms, x * factor), None, None, activation), x, factor, *terms
        )
    if add is None:
        return finished(x * gate, None, None, activation)
    # The product inside: outside it would be stored, too.
    return once(lambda x, gate, add: finished(x * gate + add, None, None, activation), x, gate, add)


def se_channels(channels: int, ratio: float, divisor: int = 8) -> int:
    """Bottleneck width: ``channels * ratio`` rounded to a multiple of ``divisor``, at least one (timm)."""
    return max(divisor, int(channels * ratio + divisor / 2) // divisor * divisor)
