"""The formulation layer: every convolution of every model, in the fastest exact form per backend.

XLA lowers the same convolution very differently per backend. On GPU cuDNN is best, and
OHWI weights spare a transpose per call. On CPU a 1x1 convolution is faster as a matrix
product, a depthwise one as shifted multiply-adds with a gradient of its own, a grouped
one as a few dense ones (docs/performance.md has the figures). Model files only call
:func:`conv2d`; all forms give the same result.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.ops.activations import Activation
from jaxvision.ops.backend import target
from jaxvision.ops.cpu import onednn
from jaxvision.ops.cpu.winograd import SIDE, Pads, kernels, winograd
from jaxvision.ops.materialize import materialize, materialize_call
from jaxvision.ops.matmul import product


def same_pads(size: Sequence[int], kernel: Sequence[int], stride: int) -> Pads:
    """TensorFlow's SAME padding: output ceil(size / stride), the odd pixel at the bottom and right."""

    def one(n: int, k: int) -> tuple[int, int]:
        total = max((-(-n // stride) - 1) * stride + k - n, 0)
        return total // 2, total - total // 2

    return one(size[0], kernel[0]), one(size[1], kernel[1])


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
    """``activation(convolution(x, weight) + bias + add)``, zero padded.

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
    kernel = weight.shape[1:3]
    pads = same_pads(x.shape[1:3], kernel, stride) if padding == "same" else ((padding, padding),) * 2
    if target() == "cpu" and onednn.active() and _suits_onednn(x, weight, stride, groups):
        if stride == 2 and weight.shape[3] == 16 and groups % 2 == 0:
            # oneDNN's loops over blocks of 32 channels take half the time of those over 16.
            weight, groups = _block_diagonal(weight, groups, 2), groups // 2
        # Inputs in front of outputs: oneDNN brings that into its own order twice as fast.
        weight = weight.transpose(1, 2, 3, 0)
        return onednn.convolution(x, weight, bias, add, activation, stride=stride, pads=pads, groups=groups)
    return bias_add_act(_convolution(x, weight, stride, pads, groups), bias, add, activation)


def bias_add_act(
    y: jax.Array, bias: jax.Array | None, add: jax.Array | None, activation: Activation | None
) -> jax.Array:
    """``activation(y + bias + add)``, of those that are not None; what follows a residual sum does not repeat it."""
    if bias is not None:
        y = y + bias
    activation = activation or _identity
    return activation(y) if add is None else materialize_call(lambda y, add: activation(y + add), y, add)


def _identity(x: jax.Array) -> jax.Array:
    return x


def _convolution(x: jax.Array, weight: jax.Array, stride: int, pads: Pads, groups: int) -> jax.Array:
    if weight.shape[1:3] == (stride, stride) and stride > 1 and not any(map(sum, pads)):
        return _patchify(x, weight)
    if target() != "cpu":
        return _lax_conv(x, weight, stride, pads, groups)
    if groups == x.shape[-1] == weight.shape[0]:
        return depthwise(x, weight[..., 0], stride, pads)
    if groups > 1:
        return _split_groups(x, weight, stride, pads, groups)
    return _dense(x, weight, stride, pads)


def _suits_onednn(x: jax.Array, weight: jax.Array, stride: int, groups: int) -> bool:
    """Not for the gates of squeeze-and-excitation, nor where Winograd's form does less than half of the products."""
    if x.dtype != jnp.float32 or x.shape[1] * x.shape[2] == 1:
        return False
    return not _suits_winograd(x, weight, stride, groups, 128)


def _lax_conv(x: jax.Array, weight: jax.Array, stride: int, pads: Pads, groups: int) -> jax.Array:
    lead = [after - before for before, after in pads]
    if target() == "gpu" and groups == 1 and min(lead) >= 0 < max(lead):
        # cuDNN pads both sides alike, so XLA would copy the map to pad it. A row or column of zeros before the kernel
        # costs products alone, and moves its window by as much. Depthwise kernels stay 3x3 and 5x5, the sizes that
        # cuDNN has kernels of their own for.
        weight = jnp.pad(weight, ((0, 0), (lead[0], 0), (lead[1], 0), (0, 0)))
        pads = (pads[0][1],) * 2, (pads[1][1],) * 2
    return lax.conv_general_dilated(
        x,
        weight,
        window_strides=(stride, stride),
        padding=pads,
        dimension_numbers=("NHWC", "OHWI", "NHWC"),
        feature_group_count=groups,
    )


def _dense(x: jax.Array, weight: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """Ungrouped, on CPU: products for 1x1 kernels and for outputs up to 8x8 pixels (1.1 against 55 ms at 2x2).

    Winograd's form for 3x3 kernels between many channels in float32.
    """
    kernel = weight.shape[1:3]
    if kernel == (1, 1) and not any(map(sum, pads)):
        x = x[:, ::stride, ::stride] if stride > 1 else x
        # The transposition is free: part of the product, or done once by jaxvision.compile.
        flat = product(x.reshape(-1, x.shape[-1]), weight[:, 0, 0].T)
        return flat.reshape(*x.shape[:-1], -1)
    if _suits_winograd(x, weight, stride, 1, 64):
        return winograd(x, weight, kernels(weight), pads)
    height, width = ((x.shape[i + 1] + sum(pads[i]) - kernel[i]) // stride + 1 for i in (0, 1))
    if height * width <= 64:
        return _patches_product(x, weight, stride, pads, height, width)
    return _lax_conv(x, weight, stride, pads, 1)


def _suits_winograd(x: jax.Array, weight: jax.Array, stride: int, groups: int, channels: int) -> bool:
    """Whether there is enough to save: many products, and a tile for every eight channels of kernels to transform."""
    if weight.shape[1:3] != (3, 3) or stride != 1 or x.dtype != jnp.float32:
        return False
    (n, height, width, _), inputs, outputs = x.shape, weight.shape[3], weight.shape[0] // groups
    tiles = n * -(-height // SIDE) * -(-width // SIDE)
    wide = channels <= min(inputs, outputs) and max(inputs, outputs) <= 8 * tiles
    return wide and min(height, width) >= 5 and height * width * inputs * outputs >= 3_000_000


def _patchify(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Kernel equal to stride, no padding: a product over the pixels of each patch; a rest at the border is unused."""
    side = weight.shape[1]
    n, height, width, channels = x.shape
    rows, columns = height // side, width // side
    x = x[:, : rows * side, : columns * side].reshape(n, rows, side, columns, side, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows, columns, side * side * channels)
    return lax.dot_general(x, weight.reshape(weight.shape[0], -1), (((3,), (1,)), ((), ())))


def _patches_product(x: jax.Array, weight: jax.Array, stride: int, pads: Pads, height: int, width: int) -> jax.Array:
    """The convolution as one matrix product over gathered patches (im2col); ``height`` x ``width`` outputs."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    shifts = [(i, j) for i in range(weight.shape[1]) for j in range(weight.shape[2])]
    patches = jnp.concatenate([x[:, i : i + rows : stride, j : j + columns : stride] for i, j in shifts], -1)
    return lax.dot_general(patches, weight.reshape(weight.shape[0], -1), (((3,), (1,)), ((), ())))


def _split_groups(x: jax.Array, weight: jax.Array, stride: int, pads: Pads, groups: int) -> jax.Array:
    """Grouped, on CPU: a dense convolution for each group, or for several narrow ones.

    Merged groups have a block-diagonal weight of at least 32 input channels: up to 8 times the
    arithmetic, still 2 to 8 times faster than XLA's grouped convolution (32x4d at 56x56: 6 against 52 ms).
    """
    if weight.shape[3] >= 64:
        return _in_pieces(functools.partial(_dense, stride=stride, pads=pads), x, weight, groups)
    merged = max(1, 32 // weight.shape[3], groups // 16)  # more than 16 pieces only cost compilation
    while groups % merged:
        merged -= 1
    return _narrow_groups(x, weight, stride, pads, groups, merged)


def _in_pieces(form: Callable[..., jax.Array], x: jax.Array, weight: jax.Array, pieces: int) -> jax.Array:
    weights = weight.reshape(pieces, -1, *weight.shape[1:])
    parts = [form(part, weights[i]) for i, part in enumerate(jnp.split(x, pieces, -1))]
    return jnp.concatenate(parts, -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _narrow_groups(x: jax.Array, weight: jax.Array, stride: int, pads: Pads, groups: int, merged: int) -> jax.Array:
    """Dense convolutions for ``merged`` of ``groups`` each, or oneDNN's grouped one."""
    if _trains_by_onednn(x):
        return onednn.convolution(
            x, weight.transpose(1, 2, 3, 0), None, None, None, stride=stride, pads=pads, groups=groups
        )
    form = functools.partial(_lax_conv, stride=stride, pads=pads, groups=1)
    return _in_pieces(form, x, _block_diagonal(weight, groups, merged), groups // merged)


def _narrow_groups_forward(
    x: jax.Array, weight: jax.Array, *how: int | Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _narrow_groups(x, weight, *how), (x, weight)


def _narrow_groups_backward(
    stride: int, pads: Pads, groups: int, merged: int, saved: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """dx as XLA derives it, or oneDNN's convolution with the weight turned round.

    dw is a convolution of channels for images, of which only the blocks are taken. Both factors are brought into its
    order at once, where XLA would do it for each piece, at a third of the speed.
    """
    x, weight = saved
    pieces = groups // merged
    _, height, width, per_group = weight.shape
    around = tuple((k - 1 - before, k - 1 - after) for k, (before, after) in zip((height, width), pads, strict=True))
    if _trains_by_onednn(x) and stride == 1 and min(map(min, around)) >= 0:
        turned = weight.reshape(groups, -1, *weight.shape[1:])[:, :, ::-1, ::-1].transpose(2, 3, 1, 0, 4)
        turned = turned.reshape(height, width, -1, x.shape[-1])
        dx = onednn.convolution(g, turned, None, None, None, stride=1, pads=around, groups=groups)
    else:
        form = functools.partial(_lax_conv, stride=stride, pads=pads, groups=1)
        blocks = _block_diagonal(weight, groups, merged)
        dx = jax.vjp(lambda x: _in_pieces(form, x, blocks, pieces), x)[1](g)[0]

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
    return dx, jnp.einsum("pmihwmo->pmohwi", pairs).reshape(weight.shape)


def _trains_by_onednn(x: jax.Array) -> bool:
    return onednn.active("training") and x.dtype == jnp.float32


_narrow_groups.defvjp(_narrow_groups_forward, _narrow_groups_backward)


def _block_diagonal(weight: jax.Array, groups: int, merged: int) -> jax.Array:
    """The weight (O, KH, KW, I / groups) for groups that are each ``merged`` of ``groups``, zero between them."""
    if merged == 1:
        return weight
    out, height, width, per_group = weight.shape
    blocks = weight.reshape(groups // merged, merged, out // groups, height, width, per_group)
    eye = jnp.eye(merged, dtype=weight.dtype)
    return jnp.einsum("gmohwi,mn->gmohwni", blocks, eye).reshape(out, height, width, merged * per_group)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(x: jax.Array, weight: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """One filter per channel, for CPU: a sum of shifted products, which XLA fuses into one loop.

    Its gradients are written out, because differentiating the sum is slower than XLA's own
    convolution: the input's is again such a sum, the weight's accumulates over blocks of rows.

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
    # A layer norm uses it three times; few products are cheaper than the way through memory.
    return materialize(total) if weight[0].size > 25 else total


def _shifted_sum(x: jax.Array, taps: jax.Array, stride: int) -> jax.Array:
    """The sum over all taps (KH, KW, C) of shifted products, where they fit into ``x`` (N, H, W, C)."""
    height, width = ((x.shape[i + 1] - taps.shape[i]) // stride + 1 for i in (0, 1))
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    taps = materialize(taps)  # else every product gathers its weight from the layout they come in: 3 times as slow
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
    """dx: each of the ``stride`` x ``stride`` phases of the input is reached by its own taps; then interleaved."""
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
        # Higher taps reach further back. A border is cut off where it is negative.
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
    """dw: each of the ``stride`` x ``stride`` phases of the padded input meets taps of its own, all with stride 1."""
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

    A reduction would run channel by channel. Here a loop over blocks of 8 rows (of several images, where maps are
    small) adds their products to one sum for each tap, column and channel, pixel after pixel along the channels.
    """
    n, height, width, channels = g.shape
    blocks = -(-height // 8)
    rows = -(-height // blocks)
    images = max(i for i in range(1, 9) if n % i == 0 and i * rows <= 8)
    below = ((0, 0), (0, blocks * rows - height), (0, 0), (0, 0))
    g, x = jnp.pad(g, below), jnp.pad(x, below)

    def add(block: jax.Array, totals: list[jax.Array]) -> list[jax.Array]:
        start = lax.div(block, blocks) * images, lax.rem(block, blocks) * rows, 0, 0
        # Stored: fused into the sums, a slice that starts anywhere keeps them from using vectors.
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
