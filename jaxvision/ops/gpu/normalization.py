"""Layer normalisation whose gradient keeps little."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jaxvision.ops.dtypes import DType, accumulator
from jaxvision.ops.normalization import layer_norm, normalize

Kept = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


@layer_norm.register("gpu")
def layer_norm_of_kept_input(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: DType) -> jax.Array:
    """Layer normalisation whose gradient is computed from the input and two numbers of each row.

    Replaces: what JAX derives, which keeps the centred rows in float32 as well. The rows are one axis, because XLA
    stores results of three and four axes in orders that later kernels read slowly. Only reverse mode: ``jax.jvp`` of a
    network with layer normalisation is refused on a GPU; ``jaxvision.ops.backend.as_xla_computes`` allows it.
    Gain: with cuDNN's attention, training DeiT-S on an H200 8,599 images/s, before 5,526
    (benchmarks/results/bench_h200_2026-11-26.md). A ConvNeXt's maps gain nothing by the bytes of its program.
    Chosen: for tokens.
    """
    if x.ndim > 3:
        return layer_norm.portable(x, scale, bias, eps, dtype)
    return _of_rows(x.reshape(-1, x.shape[-1]), scale, bias, eps, dtype).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _of_rows(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: DType) -> jax.Array:
    return normalize(x, scale, bias, eps, dtype)[0]


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: DType) -> tuple[jax.Array, Kept]:
    y, mean, inverse = normalize(x, scale, bias, eps, dtype)
    return y, (x, scale, bias, mean, inverse)


def _backward(eps: float, dtype: DType, kept: Kept, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, bias, mean, inverse = kept
    wide = accumulator(x.dtype)
    gradient = gradient.astype(wide)
    normal = (x.astype(wide) - mean) * inverse
    scaled = gradient * scale
    # The derivatives of mean and variance take away what the gradient has of the constant and of the normal direction.
    along = jnp.mean(scaled * normal, -1, keepdims=True)
    dx = inverse * (scaled - jnp.mean(scaled, -1, keepdims=True) - normal * along)
    dscale, dbias = jnp.sum(gradient * normal, 0), jnp.sum(gradient, 0)
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(bias.dtype)


_of_rows.defvjp(_forward, _backward)
