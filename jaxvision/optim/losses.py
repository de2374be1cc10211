"""Losses per example of logits and targets; the step takes their mean.

Targets are (B, K) probabilities: one-hot, smoothed, or mixed from two images.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

DISTILLATIONS = ("hard", "soft")


def smoothed_one_hot(labels: jax.Array, classes: int, smoothing: float = 0.0) -> jax.Array:
    """``(1 - e) onehot + e / K`` (Szegedy et al. 2016), float32 (B, K) of int labels (B,)."""
    return jax.nn.one_hot(labels, classes) * (1.0 - smoothing) + smoothing / classes


def softmax_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """``-sum_k q_k log softmax(logits)_k`` of targets (B, K): (B,), at least float32."""
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return -jnp.sum(targets * jax.nn.log_softmax(wide), -1)


def binary_cross_entropy(
    logits: jax.Array, targets: jax.Array, *, threshold: float | None = None, sum_classes: bool = False
) -> jax.Array:
    """Sigmoid cross-entropy per class (Wightman et al. 2021, arXiv 2110.00476), the mean over classes: (B,).

    Args:
      logits: (B, K).
      targets: (B, K) in [0, 1].
      threshold: targets above become 1, others 0, so that both images of a mix count in full
        (timm's ``--bce-target-thresh``; DeiT-III uses 0). Smoothing vanishes with it.
      sum_classes: the sum over classes instead of the mean (big_vision; timm's ``--bce-sum``).
    """
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if threshold is not None:
        targets = (targets > threshold).astype(wide.dtype)
    losses = jnp.maximum(wide, 0) - wide * targets + jnp.log1p(jnp.exp(-jnp.abs(wide)))
    return losses.sum(-1) if sum_classes else losses.mean(-1)


def distillation(logits: jax.Array, teacher: jax.Array, *, kind: str, temperature: float = 1.0) -> jax.Array:
    """The student's loss against a teacher's logits (Touvron et al. 2020, arXiv 2012.12877): (B,).

    Args:
      logits, teacher: (B, K).
      kind: "hard": cross-entropy with the teacher's decision; "soft": Kullback-Leibler divergence at
        ``temperature``, times its square, *divided by K* as DeiT's code does (its sum is over B and K elements).
      temperature: of the soft kind.
    """
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    logits, teacher = jnp.asarray(logits, wide), jax.lax.stop_gradient(jnp.asarray(teacher, wide))
    if kind == "hard":
        return softmax_cross_entropy(logits, jax.nn.one_hot(teacher.argmax(-1), logits.shape[-1]))
    log_p, log_q = jax.nn.log_softmax(logits / temperature), jax.nn.log_softmax(teacher / temperature)
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), -1) * temperature**2 / logits.shape[-1]
