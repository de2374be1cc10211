"""Exponential moving average of parameters and BN statistics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def ema_rate(step: jax.Array, decay: float, *, warmup: bool) -> jax.Array:
    """``1 - decay`` of update number ``step`` (from 0), without the rounding of decays near 1.

    With warm-up the decay is TensorFlow's ``min(decay, (1 + step) / (10 + step))``, which lets the
    average follow early training; without, the constant of timm's ``ModelEma``.
    """
    return jnp.maximum(1.0 - decay, 9.0 / (10.0 + step.astype(jnp.float32))) if warmup else jnp.float32(1.0 - decay)


def ema_update(average: Any, value: Any, rate: jax.Array) -> Any:
    """``average + rate * (value - average)`` over a pytree."""
    return jax.tree.map(lambda a, v: a + rate * (v - a), average, value)
