"""Which implementation computes a convolution on a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.ops.activations import Activation
from jaxvision.ops.convolution import Pads, fused_convolution, windowed_convolution
from jaxvision.ops.cpu import onednn, winograd
from jaxvision.ops.cpu.dense import dense
from jaxvision.ops.cpu.depthwise import depthwise
from jaxvision.ops.cpu.groups import block_diagonal, grouped


@fused_convolution.register("cpu")
def fused_convolution_by_onednn(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    add: jax.Array | None,
    activation: Activation | None,
    *,
    stride: int,
    pads: Pads,
    groups: int,
) -> jax.Array:
    """A convolution with bias, residual sum and activation as one call of oneDNN.

    Replaces: the implementations of this folder for the convolution, followed by XLA's loops.
    Gain: see :mod:`jaxvision.ops.cpu.onednn`.
    Chosen: inside ``jaxvision.compile`` for float32, but not for the gates of squeeze-and-excitation (maps of one
    pixel), nor where Winograd's algorithm needs less than half of the multiplications.
    """
    of_one_pixel = x.shape[1] * x.shape[2] == 1
    if (
        not onednn.active("inference")
        or x.dtype != jnp.float32
        or of_one_pixel
        or winograd.is_worthwhile(x, weight, stride, groups, channels=128)
    ):
        return fused_convolution.portable(x, weight, bias, add, activation, stride=stride, pads=pads, groups=groups)
    if stride == 2 and weight.shape[3] == 16 and groups % 2 == 0:
        # oneDNN's loops over blocks of 32 channels take half the time of those over 16.
        weight, groups = block_diagonal(weight, groups, 2), groups // 2
    # HWIO: oneDNN brings it into its own order twice as fast as OHWI.
    weight = weight.transpose(1, 2, 3, 0)
    return onednn.convolution(x, weight, bias, add, activation, stride=stride, pads=pads, groups=groups)


@windowed_convolution.register("cpu")
def windowed_convolution_by_shape(
    x: jax.Array, weight: jax.Array, *, stride: int, pads: Pads, groups: int
) -> jax.Array:
    """A convolution by the implementation for its number of groups.

    Replaces: XLA's convolution.
    Gain: see :func:`~jaxvision.ops.cpu.depthwise.depthwise`, :func:`~jaxvision.ops.cpu.groups.grouped`,
    :func:`~jaxvision.ops.cpu.dense.dense`.
    Chosen: always, in training and where oneDNN does not compute the convolution.
    """
    if groups == x.shape[-1] == weight.shape[0]:
        return depthwise(x, weight[..., 0], stride, pads)
    if groups > 1:
        return grouped(x, weight, stride, pads, groups)
    return dense(x, weight, stride, pads)
