"""Exponential moving average of parameters and BN statistics."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def ema_decay(step: jax.Array, decay: float, *, warmup: bool) -> jax.Array:
    """The decay of update number ``step`` (from 0).

    With warm-up it is TensorFlow's ``min(decay, (1 + step) / (10 + step))``, which lets the
    average follow early training; without, the constant of timm's ``ModelEma``.
    """
    step = step.astype(jnp.float32)
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step)) if warmup else jnp.float32(decay)


def ema_update(average: Any, value: Any, decay: jax.Array) -> Any:
    """``decay * average + (1 - decay) * value`` over a pytree."""
    return jax.tree.map(lambda a, v: a + (1.0 - decay) * (v - a), average, value)
