"""Attention by cuDNN, which stores no scores."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxvision.ops.attention import dot_product_attention


@dot_product_attention.register("gpu")
def cudnn_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, scale: float | None = None
) -> jax.Array:
    """Attention by cuDNN's fused kernels.

    Replaces: ``jax.nn.dot_product_attention`` by XLA, which stores scores (N, heads, T, T), in training as float32.
    Its gradients need an even number of tokens: in training a masked one is added. Only reverse mode, as
    :mod:`jaxvision.ops.gpu.normalization`.
    Gain: with that module's, training DeiT-S on an H200 8,599 images/s, before 5,526
    (benchmarks/results/bench_h200_2026-11-26.md).
    Chosen: without a bias, in 16 bits, where cuDNN has a plan for the shape, which :func:`has_plan` tries once.
    """
    if bias is not None or q.ndim != 4 or q.dtype not in (jnp.bfloat16, jnp.float16):
        return dot_product_attention.portable(q, k, v, bias, scale)
    tokens, heads, width = q.shape[1:]
    if not has_plan(tokens, heads, width, str(q.dtype)):
        return dot_product_attention.portable(q, k, v, bias, scale)
    return _attend(q, k, v, scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attend(q: jax.Array, k: jax.Array, v: jax.Array, scale: float | None) -> jax.Array:
    """Inference, which any number of tokens suits."""
    return jax.nn.dot_product_attention(q, k, v, scale=scale, implementation="cudnn")


def _attend_to_even(q: jax.Array, k: jax.Array, v: jax.Array, scale: float | None) -> jax.Array:
    """The same with an even number of tokens, of which the added one is masked."""
    tokens = q.shape[1]
    if tokens % 2 == 0:
        return jax.nn.dot_product_attention(q, k, v, scale=scale, implementation="cudnn")
    q, k, v = (jnp.pad(part, ((0, 0), (0, 1), (0, 0), (0, 0))) for part in (q, k, v))
    real = jnp.full(q.shape[0], tokens, jnp.int32)
    return jax.nn.dot_product_attention(
        q, k, v, scale=scale, query_seq_lengths=real, key_value_seq_lengths=real, implementation="cudnn"
    )[:, :tokens]


def _forward(q: jax.Array, k: jax.Array, v: jax.Array, scale: float | None) -> tuple[jax.Array, Callable]:
    return jax.vjp(functools.partial(_attend_to_even, scale=scale), q, k, v)


_attend.defvjp(_forward, lambda scale, pull, gradient: pull(gradient))


@functools.cache
def has_plan(tokens: int, heads: int, width: int, dtype: str) -> bool:
    """Whether this machine's cuDNN compiles attention and its gradient for (N, tokens, heads, width)."""
    if jax.default_backend() != "gpu":  # the program is compiled for another machine
        return False
    shape = jax.ShapeDtypeStruct((2, tokens, heads, width), dtype)

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(_attend(q, k, v, None).astype(jnp.float32))

    try:
        jax.jit(loss).lower(shape, shape, shape).compile()
        jax.jit(jax.grad(loss, (0, 1, 2))).lower(shape, shape, shape).compile()
    except Exception:  # whatever the library says: XLA's own attention always works
        return False
    return True
