"""Convolutions for ONNX."""

from __future__ import annotations

import jax
from jax import lax

from jaxvision.ops.activations import Activation
from jaxvision.ops.convolution import Pads, bias_add_act, fused_convolution


@fused_convolution.register("onnx")
def onnx_convolution(
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
    """A convolution, also one whose windows do not overlap, and what follows it.

    Replaces: a matmul of patches, which jax2onnx writes as an Einsum, and ONNX Runtime does not fuse.
    Chosen: always.
    """
    y = convolution_of_oihw(x, weight, stride=stride, pads=pads, groups=groups)
    return bias_add_act(y, bias, add, activation)


def convolution_of_oihw(x: jax.Array, weight: jax.Array, *, stride: int, pads: Pads, groups: int) -> jax.Array:
    """A convolution with its weight in ONNX's own order; jax2onnx does not know OHWI."""
    with jax.ensure_compile_time_eval():
        weight = weight.transpose(0, 3, 1, 2)
    return lax.conv_general_dilated(
        x,
        weight,
        window_strides=(stride, stride),
        padding=pads,
        dimension_numbers=("NHWC", "OIHW", "NHWC"),
        feature_group_count=groups,
    )
