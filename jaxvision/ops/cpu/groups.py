"""Convolutions with several groups of channels, on a CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.ops.convolution import Pads, windowed_convolution
from jaxvision.ops.cpu import onednn
from jaxvision.ops.cpu.dense import dense
from jaxvision.ops.cpu.materialize import materialize


def grouped(x: jax.Array, weight: jax.Array, stride: int, pads: Pads, groups: int) -> jax.Array:
    """A grouped convolution as several ungrouped ones: one for each group, or for several narrow ones together.

    Groups that are computed together have a block-diagonal weight of at least 32 input channels: up to 8 times the
    arithmetic, still 2 to 8 times faster.

    Replaces: XLA's grouped convolution and its derivatives.
    Gain: 32 groups of 4 on 56x56 pixels 6 ms where XLA takes 52, gradients 58 to 201 times as fast
    (benchmarks/results/grouped_widths_cpu2_2026-11-22.md, formulations_cpu2_2026-11-23.md). Not all shapes gain: 32
    groups of 32 channels on 7x7 pixels take 1.7 times as long as by XLA.
    Chosen: for more than one group, unless there is one for each channel.

    Args:
      x: (N, H, W, I).
      weight: (O, KH, KW, I / groups).
      stride: of both axes.
      pads: of height and width.
      groups: of channels.

    Returns:
      (N, H', W', O).
    """
    if weight.shape[3] >= 64:
        return _in_pieces(functools.partial(dense, stride=stride, pads=pads), x, weight, groups)
    merged = max(1, 32 // weight.shape[3], groups // 16)  # more than 16 pieces only cost compilation
    while groups % merged:
        merged -= 1
    return _narrow_groups(x, weight, stride, pads, groups, merged)


def _in_pieces(
    convolve: Callable[[jax.Array, jax.Array], jax.Array], x: jax.Array, weight: jax.Array, pieces: int
) -> jax.Array:
    """The results of ``convolve`` for ``pieces`` equal cuts of the channels, next to each other."""
    weights = weight.reshape(pieces, -1, *weight.shape[1:])
    parts = [convolve(part, weights[i]) for i, part in enumerate(jnp.split(x, pieces, -1))]
    return jnp.concatenate(parts, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _narrow_groups(x: jax.Array, weight: jax.Array, stride: int, pads: Pads, groups: int, merged: int) -> jax.Array:
    """Ungrouped convolutions for ``merged`` of ``groups`` each; in training, if available, oneDNN's grouped one."""
    if _trains_by_onednn(x):
        return onednn.convolution(
            x, weight.transpose(1, 2, 3, 0), None, None, None, stride=stride, pads=pads, groups=groups
        )
    return _by_blocks(x, block_diagonal(weight, groups, merged), stride, pads, groups // merged)


def _by_blocks(x: jax.Array, blocks: jax.Array, stride: int, pads: Pads, pieces: int) -> jax.Array:
    convolve = functools.partial(windowed_convolution.portable, stride=stride, pads=pads, groups=1)
    return _in_pieces(convolve, x, blocks, pieces)


def _narrow_groups_forward(
    x: jax.Array, weight: jax.Array, *how: int | Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _narrow_groups(x, weight, *how), (x, weight)


def _narrow_groups_backward(
    stride: int, pads: Pads, groups: int, merged: int, saved: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    return (
        _input_gradient(g, x, weight, stride, pads, groups, merged),
        _weight_gradient(g, x, weight, stride, pads, groups, merged),
    )


def _input_gradient(
    g: jax.Array, x: jax.Array, weight: jax.Array, stride: int, pads: Pads, groups: int, merged: int
) -> jax.Array:
    """dx: as JAX derives it, or, without a stride, oneDNN's convolution of ``g`` with the flipped kernels."""
    _, height, width, _ = weight.shape
    around = tuple((k - 1 - before, k - 1 - after) for k, (before, after) in zip((height, width), pads, strict=True))
    if _trains_by_onednn(x) and stride == 1 and min(map(min, around)) >= 0:
        flipped = weight.reshape(groups, -1, *weight.shape[1:])[:, :, ::-1, ::-1].transpose(2, 3, 1, 0, 4)
        flipped = flipped.reshape(height, width, -1, x.shape[-1])
        return onednn.convolution(g, flipped, None, None, None, stride=1, pads=around, groups=groups)
    blocks = block_diagonal(weight, groups, merged)
    return jax.vjp(lambda x: _by_blocks(x, blocks, stride, pads, groups // merged), x)[1](g)[0]


def _weight_gradient(
    g: jax.Array, x: jax.Array, weight: jax.Array, stride: int, pads: Pads, groups: int, merged: int
) -> jax.Array:
    """dw: a convolution in which channels take the place of images, of which only the blocks on the diagonal are kept.

    Both factors are transposed for it at once. XLA would do it for each piece, at a third of the speed.
    """
    pieces = groups // merged
    _, height, width, per_group = weight.shape
    ends = [
        (before, stride * (g.shape[i + 1] - 1) + weight.shape[i + 1] - x.shape[i + 1] - before)
        for i, (before, _) in enumerate(pads)
    ]
    dw = [
        lax.conv_general_dilated(
            part, of_g, (1, 1), ends, rhs_dilation=(stride, stride), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for part, of_g in zip(
            jnp.split(materialize(x.transpose(3, 1, 2, 0)), pieces),
            jnp.split(g.transpose(1, 2, 0, 3), pieces, -1),
            strict=True,
        )
    ]
    pairs = jnp.stack(dw).reshape(pieces, merged, per_group, height, width, merged, -1)
    return jnp.einsum("pmihwmo->pmohwi", pairs).reshape(weight.shape)


_narrow_groups.defvjp(_narrow_groups_forward, _narrow_groups_backward)


def _trains_by_onednn(x: jax.Array) -> bool:
    return onednn.active("training") and x.dtype == jnp.float32


def block_diagonal(weight: jax.Array, groups: int, merged: int) -> jax.Array:
    """The weight (O, KH, KW, I / groups) for groups that are each ``merged`` of ``groups``, zero between them."""
    if merged == 1:
        return weight
    out, height, width, per_group = weight.shape
    blocks = weight.reshape(groups // merged, merged, out // groups, height, width, per_group)
    eye = jnp.eye(merged, dtype=weight.dtype)
    return jnp.einsum("gmohwi,mn->gmohwni", blocks, eye).reshape(out, height, width, merged * per_group)
