"""The other ways of ``tools/gpu/trials.py``: the same values as the networks' operations, computed otherwise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]
LAYOUTS = ("NHWC", "OHWI", "NHWC")


def cudnn_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None = None, *, length: int
) -> jax.Array:
    """Attention (N, T, heads, D) by cuDNN, with tokens added up to ``length`` that nobody attends to."""
    tokens = q.shape[1]
    pad = ((0, 0), (0, length - tokens), (0, 0), (0, 0))
    q, k, v = (jnp.pad(part, pad) for part in (q, k, v))
    more = {}
    if bias is not None:
        bias = jnp.pad(bias, ((0, 0), (0, 0), (0, length - tokens), (0, length - tokens)))
    if length != tokens:
        more = {"key_value_seq_lengths": jnp.full(q.shape[0], tokens, jnp.int32)}
        more["query_seq_lengths"] = more["key_value_seq_lengths"]
    return jax.nn.dot_product_attention(q, k, v, bias, implementation="cudnn", **more)[:, :tokens]


def _same(kernel: int) -> Pads:
    return ((kernel // 2, kernel // 2),) * 2


def convolve(x: jax.Array, weight: jax.Array, *, stride: int, groups: int) -> jax.Array:
    """A convolution of maps (N, H, W, C) as XLA computes it; weight (out, height, width, in of a group)."""
    return lax.conv_general_dilated(
        x, weight, (stride, stride), _same(weight.shape[1]), dimension_numbers=LAYOUTS, feature_group_count=groups
    )


def convolve_channels_first(x: jax.Array, weight: jax.Array, *, stride: int, groups: int) -> jax.Array:
    """The same on maps (N, C, H, W), transposed before and after."""
    y = lax.conv_general_dilated(
        x.transpose(0, 3, 1, 2), weight.transpose(0, 3, 1, 2), (stride, stride), _same(weight.shape[1]),
        dimension_numbers=("NCHW", "OIHW", "NCHW"), feature_group_count=groups,
    )  # fmt: skip
    return y.transpose(0, 2, 3, 1)


def depthwise_sums(x: jax.Array, weight: jax.Array, *, stride: int) -> jax.Array:
    """A depthwise convolution as a sum of shifted maps, added up in float32."""
    kernel = weight.shape[1]
    height, width = (-(-side // stride) for side in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), *_same(kernel), (0, 0)))
    total = jnp.zeros((x.shape[0], height, width, x.shape[3]), jnp.float32)
    for i in range(kernel):
        for j in range(kernel):
            part = padded[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
            total += part.astype(jnp.float32) * weight[:, i, j, 0].astype(jnp.float32)
    return total.astype(x.dtype)


@jax.custom_vjp
def depthwise_sums_with_gradient(x: jax.Array, weight: jax.Array) -> jax.Array:
    """:func:`depthwise_sums` with stride 1, whose gradients are sums of shifted maps, too."""
    return depthwise_sums(x, weight, stride=1)


def _sums_backward(kept: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    kernel = weight.shape[1]
    dx = depthwise_sums(gradient, weight[:, ::-1, ::-1], stride=1)
    padded = jnp.pad(x, ((0, 0), *_same(kernel), (0, 0)))
    wide, (height, width) = gradient.astype(jnp.float32), x.shape[1:3]
    rows = [
        [jnp.sum(padded[:, i : i + height, j : j + width].astype(jnp.float32) * wide, (0, 1, 2)) for j in range(kernel)]
        for i in range(kernel)
    ]
    return dx, jnp.stack([jnp.stack(row, -1) for row in rows], 1)[..., None].astype(weight.dtype)


depthwise_sums_with_gradient.defvjp(
    lambda x, weight: (depthwise_sums(x, weight, stride=1), (x, weight)), _sums_backward
)


def dense_with_zeros(x: jax.Array, weight: jax.Array, *, groups: int) -> jax.Array:
    """A grouped 3x3 convolution as an ungrouped one, with zeros where groups do not see each other."""
    out, height, width, inputs = weight.shape
    eye = jnp.eye(groups, dtype=weight.dtype)
    blocks = weight.reshape(groups, out // groups, height, width, inputs)
    dense = jnp.einsum("gohwi,gk->gohwki", blocks, eye).reshape(out, height, width, groups * inputs)
    return convolve(x, dense, stride=1, groups=1)


def with_more_channels(x: jax.Array, weight: jax.Array, *, channels: int) -> jax.Array:
    """A 7x7 convolution of stride 2 with channels of zeros added to images and kernel."""
    pad = ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[3]))
    return convolve(jnp.pad(x, pad), jnp.pad(weight, pad), stride=2, groups=1)
