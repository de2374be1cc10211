"""Learning-rate schedules: functions of the optimizer step, traced or not.

The published recipes differ in where the warm-up ends and in whether the value changes
every step or every epoch, so both are arguments of :func:`make_schedule`.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import optax

from jaxvision.errors import UserError, did_you_mean

SCHEDULES = ("cosine", "exponential", "step", "constant")
WARMUPS = ("after", "linspace", "under")


def make_schedule(
    name: str,
    peak: float,
    *,
    total_steps: int,
    warmup_steps: int = 0,
    warmup: str = "after",
    start: float = 0.0,
    end: float = 0.0,
    decay_steps: float = 1.0,
    decay_rate: float = 0.97,
    boundaries: Sequence[int] = (),
    steps_per_epoch: float = 0.0,
) -> optax.Schedule:
    """``schedule(step)``: a linear warm-up and a decay.

    The warm-up is ``start + (peak - start) * step / warmup_steps``. The decay's clock t:

    * "after": starts at the end of the warm-up and spans the rest of the steps
      (tensorflow/models, Swin, torchvision);
    * "linspace": the same, but the last warm-up step has already the peak (ConvNeXt);
    * "under": runs from step 0 over all steps, hidden while the warm-up lasts (timm without
      ``--warmup-prefix``, DeiT; TensorFlow's EfficientNets).

    Args:
      name: "cosine": ``end + (peak - end) (1 + cos(pi t / T)) / 2``; "exponential", a staircase:
        ``peak * decay_rate ^ floor(t / decay_steps)``; "step": ``peak * decay_rate ^ (boundaries passed)``;
        "constant".
      peak: the highest value.
      total_steps: of the run.
      warmup_steps, warmup, start: of the warm-up.
      end: of the cosine.
      decay_steps, decay_rate, boundaries: of the others, in steps.
      steps_per_epoch: if not 0, the value changes only between epochs (timm's default, torchvision): the
        clock is the number of finished epochs, and all lengths count whole epochs of so many steps.

    Example::

      schedule = make_schedule("cosine", 1.6, total_steps=109_475, warmup_steps=1560)
      float(schedule(1560))  # 1.6
    """
    if name not in SCHEDULES:
        raise UserError(f"unknown schedule {name!r}.{did_you_mean(name, SCHEDULES)} Known: {', '.join(SCHEDULES)}")
    if warmup not in WARMUPS:
        raise UserError(f"unknown warm-up {warmup!r}.{did_you_mean(warmup, WARMUPS)} Known: {', '.join(WARMUPS)}")
    unit = steps_per_epoch or 1.0
    rise, total = warmup_steps / unit, total_steps / unit
    offset = 0.0 if warmup == "under" else rise
    span = max(total - offset, 1e-9)
    top = max(rise - 1, 1) if warmup == "linspace" else max(rise, 1e-9)

    def schedule(step: int | jnp.ndarray) -> jnp.ndarray:
        clock = jnp.asarray(step, jnp.float32) / unit
        # An epoch's first step may fall short of a whole number by a rounding.
        clock = jnp.floor(clock + 1e-4) if steps_per_epoch else clock
        t = jnp.clip(clock - offset, 0.0, span)
        if name == "cosine":
            value = end + (peak - end) * 0.5 * (1 + jnp.cos(jnp.pi * t / span))
        elif name == "exponential":
            value = peak * decay_rate ** jnp.floor(t * unit / decay_steps + 1e-4)
        elif name == "step":
            passed = sum((t * unit >= boundary - 1e-3).astype(jnp.float32) for boundary in boundaries)
            value = peak * decay_rate ** jnp.asarray(passed, jnp.float32)
        else:
            value = jnp.full((), peak, jnp.float32)
        rising = start + (peak - start) * clock / top
        return jnp.where(clock < rise, jnp.minimum(rising, max(peak, start)), value)

    return schedule
