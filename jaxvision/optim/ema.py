"""Exponential moving average (EMA) of parameters and BN statistics."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """Exponential moving average (EMA) of the weights; an evaluation reports both."""

    decay: float = option(0.9999, "share of the old EMA that a step keeps", low=0, high=1)
    warmup: bool = option(True, "keep less at first: min(decay, (1 + n) / (10 + n)) at the n-th update")


def ema_rate(config: EmaConfig, step: jax.Array) -> jax.Array:
    """``1 - decay`` of update number ``step`` (from 0), without the rounding of decays near 1.

    With warm-up the decay is that of TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``,
    ``min(decay, (1 + n) / (10 + n))``, which lets the EMA follow early training. n counts from 1: the training scripts
    of tensorflow/tpu update the EMA after the step was counted. Without warm-up the decay is constant, as in timm's
    ``ModelEma``.
    """
    rate = 1.0 - config.decay
    return jnp.maximum(rate, 9.0 / (11.0 + step.astype(jnp.float32))) if config.warmup else jnp.float32(rate)


def ema_update(average: Any, value: Any, rate: jax.Array) -> Any:
    """``average + rate * (value - average)`` over a pytree."""
    return jax.tree.map(lambda a, v: a + rate * (v - a), average, value)
