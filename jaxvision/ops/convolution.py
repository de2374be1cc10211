"""Convolutions, and the elementwise operations that follow them.

:func:`conv2d` is what models call. Backends may register an implementation of :func:`fused_convolution`, to compute a
convolution together with what follows it, or of :func:`windowed_convolution`, for the convolution alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax import lax

from jaxvision.ops.activations import Activation
from jaxvision.ops.backend import operation
from jaxvision.ops.materialize import identity, materialize_call

Pads = tuple[tuple[int, int], tuple[int, int]]
"""Zeros before and after the height, and before and after the width. A negative number cuts off."""


def conv2d(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    add: jax.Array | None = None,
    activation: Activation | None = None,
    *,
    stride: int = 1,
    padding: int | str = 0,
    groups: int = 1,
) -> jax.Array:
    """``activation(convolution(x, weight) + bias + add)``, padded with zeros.

    Args:
      x: images or maps, (N, H, W, I).
      weight: (O, KH, KW, I / groups), of the same dtype.
      bias: (O,), of the same dtype.
      add: (N, H', W', O), a residual block's shortcut.
      activation: elementwise.
      stride: of both axes.
      padding: pixels on all sides, or "same" (:func:`same_pads`).
      groups: input and output channels are cut into this many consecutive groups.

    Returns:
      (N, H', W', O), of ``x``'s dtype.
    """
    pads = same_pads(x.shape[1:3], weight.shape[1:3], stride) if padding == "same" else ((padding, padding),) * 2
    return fused_convolution(x, weight, bias, add, activation, stride=stride, pads=pads, groups=groups)


def same_pads(size: Sequence[int], kernel: Sequence[int], stride: int) -> Pads:
    """TensorFlow's SAME padding: output ceil(size / stride), the odd pixel at the bottom and right."""

    def one(n: int, k: int) -> tuple[int, int]:
        total = max((-(-n // stride) - 1) * stride + k - n, 0)
        return total // 2, total - total // 2

    return one(size[0], kernel[0]), one(size[1], kernel[1])


@operation
def fused_convolution(
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
    """``activation(convolution(x, weight) + bias + add)``; the arguments are those of :func:`conv2d`.

    XLA fuses what follows a convolution by itself.
    """
    y = convolution(x, weight, stride=stride, pads=pads, groups=groups)
    return bias_add_act(y, bias, add, activation)


def bias_add_act(
    y: jax.Array, bias: jax.Array | None, add: jax.Array | None, activation: Activation | None
) -> jax.Array:
    """``activation(y + bias + add)``, of those that are not None; the sum with ``add`` is materialized."""
    if bias is not None:
        y = y + bias
    activation = activation or identity
    return activation(y) if add is None else materialize_call(lambda y, add: activation(y + add), y, add)


def convolution(x: jax.Array, weight: jax.Array, *, stride: int, pads: Pads, groups: int) -> jax.Array:
    """The convolution of ``x`` with ``weight``; the arguments are those of :func:`conv2d`."""
    if stride > 1 and weight.shape[1:3] == (stride, stride) and not any(map(sum, pads)):
        return _convolution_of_patches(x, weight)
    return windowed_convolution(x, weight, stride=stride, pads=pads, groups=groups)


def _convolution_of_patches(x: jax.Array, weight: jax.Array) -> jax.Array:
    """A convolution whose windows do not overlap, as a matmul over the pixels of each patch.

    Kernel and stride are equal and there is no padding; pixels at the border that fill no patch are unused.
    """
    side = weight.shape[1]
    n, height, width, channels = x.shape
    rows, columns = height // side, width // side
    x = x[:, : rows * side, : columns * side].reshape(n, rows, side, columns, side, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows, columns, side * side * channels)
    return lax.dot_general(x, weight.reshape(weight.shape[0], -1), (((3,), (1,)), ((), ())))


@operation
def windowed_convolution(x: jax.Array, weight: jax.Array, *, stride: int, pads: Pads, groups: int) -> jax.Array:
    """A convolution by XLA; the arguments are those of :func:`conv2d`.

    Weights are stored as OHWI, which spares cuDNN a transposition.
    """
    return lax.conv_general_dilated(
        x,
        weight,
        window_strides=(stride, stride),
        padding=pads,
        dimension_numbers=("NHWC", "OHWI", "NHWC"),
        feature_group_count=groups,
    )
