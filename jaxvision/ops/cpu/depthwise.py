"""Convolutions with one filter for each channel, on a CPU."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.ops.convolution import Pads
from jaxvision.ops.cpu.materialize import materialize


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(x: jax.Array, weight: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """A convolution with one filter for each channel, as a sum of the shifted map times each of the filter's weights.

    XLA fuses the sum into one loop. Its gradients are written out, because differentiating the sum is slower than XLA's
    convolution: the input's is again such a sum, the weight's accumulates over blocks of rows. Sums are in float32 or
    wider.

    Replaces: XLA's grouped convolution, and its derivatives.
    Gain: forward 23 to 39 times, gradients 18 to 36 times (benchmarks/results/formulations_cpu2_2026-11-23.md).
    Chosen: for as many groups as input and output channels.

    Args:
      x: (N, H, W, C).
      weight: (C, KH, KW).
      stride: of both axes.
      pads: of height and width.

    Returns:
      (N, H', W', C).
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0))).astype(wide)
    total = _shifted_sum(padded, weight.astype(wide).transpose(1, 2, 0), stride).astype(x.dtype)
    # A layer norm uses it three times; computing a small filter again is cheaper than the way through memory.
    return materialize(total) if weight[0].size > 25 else total


def _shifted_sum(x: jax.Array, taps: jax.Array, stride: int) -> jax.Array:
    """The sum over all taps (KH, KW, C), where they fit into ``x`` (N, H, W, C), of the tap times the shifted ``x``."""
    height, width = ((x.shape[i + 1] - taps.shape[i]) // stride + 1 for i in (0, 1))
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    taps = materialize(taps)  # otherwise each term gathers its weights from the original layout: 3 times as slow
    total: jax.Array | float = 0.0
    for i in range(taps.shape[0]):
        for j in range(taps.shape[1]):
            total += x[:, i : i + rows : stride, j : j + columns : stride] * taps[i, j]
    return jnp.asarray(total)


def _depthwise_forward(
    x: jax.Array, weight: jax.Array, stride: int, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise(x, weight, stride, pads), (x, weight)


def _depthwise_backward(
    stride: int, pads: Pads, saved: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    return _depthwise_input_gradient(g, weight, stride, pads, x.shape), _depthwise_weight_gradient(
        g, x, weight, stride, pads
    )


def _depthwise_input_gradient(
    g: jax.Array, weight: jax.Array, stride: int, pads: Pads, shape: Sequence[int]
) -> jax.Array:
    """dx: each of the ``stride`` x ``stride`` phases of the input is a sum over the taps that meet it."""
    _, kh, kw = weight.shape
    (top, _), (left, _) = pads
    height, width = -(-shape[1] // stride), -(-shape[2] // stride)  # pixels of a phase, the last one maybe unused
    wide = jnp.promote_types(g.dtype, jnp.float32)

    def phase(a: int, b: int) -> jax.Array:
        # x[a + s r] meets tap i in output row o where a + s r + top = s o + i, so o = r + (a + top - i) / s.
        taps_h = [(i, (a + top - i) // stride) for i in range(kh) if (a + top - i) % stride == 0]
        taps_w = [(j, (b + left - j) // stride) for j in range(kw) if (b + left - j) % stride == 0]
        if not taps_h or not taps_w:
            return jnp.zeros((shape[0], height, width, shape[3]), wide)
        # Higher taps reach further back. A negative border cuts off.
        borders = [
            (-min(d for _, d in taps), max(d for _, d in taps) + size - n, 0)
            for taps, size, n in ((taps_h, height, g.shape[1]), (taps_w, width, g.shape[2]))
        ]
        padded = lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *borders, (0, 0, 0))).astype(wide)
        chosen = weight.astype(wide)[:, [i for i, _ in taps_h[::-1]]][:, :, [j for j, _ in taps_w[::-1]]]
        return _shifted_sum(padded, chosen.transpose(1, 2, 0), 1)

    if stride == 1:
        return phase(0, 0).astype(g.dtype)
    phases = jnp.stack([jnp.stack([phase(a, b) for b in range(stride)], 3) for a in range(stride)], 2)
    whole = phases.reshape(shape[0], height * stride, width * stride, shape[3])
    return whole[:, : shape[1], : shape[2]].astype(g.dtype)


def _depthwise_weight_gradient(g: jax.Array, x: jax.Array, weight: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """dw: each of the ``stride`` x ``stride`` phases of the padded input meets other taps, with stride 1."""
    _, kh, kw = weight.shape
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    zero = jnp.zeros((), jnp.promote_types(x.dtype, jnp.float32))

    def placed(taps: int, first: int, size: int) -> tuple[int, int, int]:
        return first, size - first - (stride * (taps - 1) + 1), stride - 1

    total = jnp.broadcast_to(zero, (kh, kw, x.shape[3]))
    for a in range(min(stride, kh)):
        for b in range(min(stride, kw)):
            taps = -(-(kh - a) // stride), -(-(kw - b) // stride)
            sums = _tap_sums(g, padded[:, a::stride, b::stride], taps, zero.dtype)
            total += lax.pad(sums, zero, (placed(taps[0], a, kh), placed(taps[1], b, kw), (0, 0, 0)))
    return total.transpose(2, 0, 1).astype(weight.dtype)


def _tap_sums(g: jax.Array, x: jax.Array, taps: tuple[int, int], dtype: jnp.dtype) -> jax.Array:
    """The sums over pixels of ``g`` (N, H, W, C) times ``x`` shifted by each of ``taps``: (KH, KW, C).

    XLA's reduction would run channel by channel. Here a loop over blocks of 8 rows (of several images, where maps are
    small) adds to one sum for each tap, column and channel, with vectors along the channels.
    """
    n, height, width, channels = g.shape
    blocks = -(-height // 8)
    rows = -(-height // blocks)
    images = max(i for i in range(1, 9) if n % i == 0 and i * rows <= 8)
    below = ((0, 0), (0, blocks * rows - height), (0, 0), (0, 0))
    g, x = jnp.pad(g, below), jnp.pad(x, below)

    def add(block: jax.Array, totals: list[jax.Array]) -> list[jax.Array]:
        start = lax.div(block, blocks) * images, lax.rem(block, blocks) * rows, 0, 0
        # Materialized: fused into the sums, slices with a variable start keep them from using vectors.
        of_g = materialize(lax.dynamic_slice(g, start, (images, rows, width, channels)).astype(dtype))
        size = images, rows + taps[0] - 1, width + taps[1] - 1, channels
        of_x = materialize(lax.dynamic_slice(x, start, size).astype(dtype))
        of_rows = [(i, r) for i in range(images) for r in range(rows)]
        return [
            sum((of_g[i, r] * of_x[i, r : r + taps[0], j : j + width] for i, r in of_rows), total)
            for j, total in enumerate(totals)
        ]

    totals = [jnp.zeros((taps[0], width, channels), dtype)] * taps[1]
    totals = lax.fori_loop(0, n // images * blocks, add, totals)
    return jnp.stack([jnp.sum(total, 1) for total in totals], 1)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)
