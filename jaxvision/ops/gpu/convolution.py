"""Convolutions whose padding cuDNN does not know."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.ops.convolution import Pads, windowed_convolution


@windowed_convolution.register("gpu")
def with_zeros_before_the_kernel(x: jax.Array, weight: jax.Array, *, stride: int, pads: Pads, groups: int) -> jax.Array:
    """A convolution with more padding behind than before, as one with equal padding and a larger kernel.

    Replaces: XLA's copy of the map with its padding; cuDNN pads both sides alike. A row or column of zeros before the
    kernel costs arithmetic alone, and moves its window by as much.
    Gain: EfficientNetV2-B0's inference for an H200 1.30 GB of traffic, before 1.33
    (benchmarks/results/gpu_program_fusion_h200_2026-11-24.md, gpu_program_train_same_h200_2026-11-24.md).
    Chosen: for ungrouped convolutions with TensorFlow's SAME padding and stride 2. Depthwise kernels stay 3x3 and 5x5,
    the sizes for which cuDNN has kernels of their own.
    """
    extra = [after - before for before, after in pads]
    if groups == 1 and min(extra) >= 0 < max(extra):
        weight = jnp.pad(weight, ((0, 0), (extra[0], 0), (extra[1], 0), (0, 0)))
        pads = (pads[0][1],) * 2, (pads[1][1],) * 2
    return windowed_convolution.portable(x, weight, stride=stride, pads=pads, groups=groups)
