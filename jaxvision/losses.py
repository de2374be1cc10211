"""Losses per example; the step takes their mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """``-sum_k q_k log softmax(logits)_k`` with ``q = (1 - e) onehot + e / K`` (Szegedy et al. 2016).

    Args:
      logits: (B, K).
      labels: int (B,).
      label_smoothing: e.

    Returns:
      (B,), at least float32.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    picked = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    return -(1.0 - label_smoothing) * picked - label_smoothing * jnp.mean(log_p, axis=1)
