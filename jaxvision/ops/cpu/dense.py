"""Convolutions with one group, on a CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.ops.convolution import Pads, windowed_convolution
from jaxvision.ops.cpu import winograd
from jaxvision.ops.cpu.matmul import matmul


def dense(x: jax.Array, weight: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A convolution with one group, by the fastest algorithm for its shape.

    Replaces: XLA's convolution.
    Gain: 1.1 ms where XLA takes 55 for 3x3 kernels on 2x2 pixels; for all shapes
    benchmarks/results/formulations_cpu2_2026-11-23.md.
    Chosen: a matmul for 1x1 kernels, Winograd's algorithm for 3x3 kernels between many channels in float32, a matmul of
    gathered patches for outputs up to 8x8 pixels, XLA's convolution for the rest.

    Args:
      x: (N, H, W, I).
      weight: (O, KH, KW, I).
      stride: of both axes.
      pads: of height and width.

    Returns:
      (N, H', W', O).
    """
    kernel = weight.shape[1:3]
    if kernel == (1, 1) and not any(map(sum, pads)):
        x = x[:, ::stride, ::stride] if stride > 1 else x
        # Transposing costs nothing: the matmul does it as it reads, or jaxvision.compile did it once. Two axes, pixels
        # by channels: with more, XLA copies the gradient to transpose it.
        flat = matmul(x.reshape(-1, x.shape[-1]), weight[:, 0, 0].T)
        return flat.reshape(*x.shape[:-1], -1)
    if winograd.is_worthwhile(x, weight, stride, groups=1, channels=64):
        return winograd.winograd(x, weight, winograd.kernels(weight), pads)
    height, width = ((x.shape[i + 1] + sum(pads[i]) - kernel[i]) // stride + 1 for i in (0, 1))
    if height * width <= 64:
        return _matmul_of_patches(x, weight, stride, pads, height, width)
    return windowed_convolution.portable(x, weight, stride=stride, pads=pads, groups=1)


def _matmul_of_patches(x: jax.Array, weight: jax.Array, stride: int, pads: Pads, height: int, width: int) -> jax.Array:
    """The convolution as one matmul over gathered patches (im2col); ``height`` x ``width`` outputs."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    shifts = [(i, j) for i in range(weight.shape[1]) for j in range(weight.shape[2])]
    patches = jnp.concatenate([x[:, i : i + rows : stride, j : j + columns : stride] for i, j in shifts], -1)
    return lax.dot_general(patches, weight.reshape(weight.shape[0], -1), (((3,), (1,)), ((), ())))
