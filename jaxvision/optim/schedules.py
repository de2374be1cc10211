"""Learning-rate schedules: functions of the optimizer step, traced or not.

A decay is a function in :data:`SCHEDULES`. The published recipes differ in where the warm-up ends and in whether the
value changes every step or every epoch, so both are fields of ``config.schedule``.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxvision.options import option


class Clock(NamedTuple):
    """The position in a decay.

    Attributes:
      time: units since the start of the decay.
      span: length of the decay in units.
      unit: steps per unit: 1, or those of an epoch where the rate changes between epochs only.
      steps_per_epoch: for lengths that the config gives in epochs.
    """

    time: jax.Array
    span: float
    unit: float
    steps_per_epoch: float


def cosine(config: ScheduleConfig, peak: float, clock: Clock) -> jax.Array:
    """``end + (peak - end) (1 + cos(pi t / T)) / 2``."""
    end = config.end_learning_rate
    return end + (peak - end) * 0.5 * (1 + jnp.cos(jnp.pi * clock.time / clock.span))


def exponential(config: ScheduleConfig, peak: float, clock: Clock) -> jax.Array:
    """A staircase, ``peak * decay_rate ^ floor(t / decay_epochs)``."""
    decay_steps = config.decay_epochs * clock.steps_per_epoch
    return peak * config.decay_rate ** jnp.floor(clock.time * clock.unit / decay_steps + 1e-4)


def step(config: ScheduleConfig, peak: float, clock: Clock) -> jax.Array:
    """``peak * decay_rate ^ (boundaries passed)``."""
    boundaries = [round(epoch * clock.steps_per_epoch) for epoch in config.boundaries]
    passed = sum((clock.time * clock.unit >= boundary - 1e-3).astype(jnp.float32) for boundary in boundaries)
    return peak * config.decay_rate ** jnp.asarray(passed, jnp.float32)


def constant(config: ScheduleConfig, peak: float, clock: Clock) -> jax.Array:
    """``peak``."""
    return jnp.full((), peak, jnp.float32)


SCHEDULES: dict[str, Callable[[ScheduleConfig, float, Clock], jax.Array]] = {
    "cosine": cosine,
    "exponential": exponential,
    "step": step,
    "constant": constant,
}
WARMUPS = ("after", "linspace", "under", "joined")


def _boundaries_problem(epochs: tuple[float, ...]) -> str | None:
    rises = all(a < b for a, b in itertools.pairwise(epochs))
    return None if rises else "expected epochs that rise from one to the next"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning rate over the run: a linear warm-up and a decay."""

    warmup_epochs: float = option(5.0, "epochs of linear warm-up; 0: none", low=0, high=1e6)
    name: str = option(
        "cosine", '"cosine" to end_learning_rate; "exponential", a staircase; "step" at the boundaries; "constant"',
        choices=SCHEDULES,
    )  # fmt: skip
    warmup: str = option(
        "after",
        'where the decay starts. "after": at the end of the warm-up; "linspace": the same, but the last step of the '
        'warm-up already has the peak; "under": at the first step of the run, although the warm-up sets the rate until '
        'it ends; "joined": as "under", and the warm-up rises to the value that the decay then has, not to the peak',
        choices=WARMUPS,
    )
    per_epoch: bool = option(False, "change the rate between epochs only")
    delay_epochs: float = option(
        0.0, "epochs for which the rate stays at its first value before the warm-up begins; DeiT: 1", low=0, high=1e6
    )
    cooldown_epochs: float = option(
        0.0,
        "epochs at the end of the run for which the rate stays at the decay's last value; timm's script: 10",
        low=0,
        high=1e6,
    )
    decay_epochs: float = option(2.4, "epochs of one stair of exponential", above=0, high=1e6)
    decay_rate: float = option(0.97, "factor of each stair of exponential and step", low=0, high=1)
    boundaries: tuple[float, ...] = option(
        (), "epochs at which step decays", above=0, high=1e6, check=_boundaries_problem
    )
    start_learning_rate: float = option(0.0, "learning rate of the first step of the warm-up", low=0, high=1e6)
    end_learning_rate: float = option(0.0, "learning rate at the end of cosine", low=0, high=1e6)


def make_schedule(
    config: ScheduleConfig, peak: float, *, total_steps: int, warmup_steps: int, steps_per_epoch: float
) -> optax.Schedule:
    """``schedule(step)``: a linear warm-up and a decay.

    The warm-up is ``start + (peak - start) * step / warmup_steps``. The decay's clock:

    * "after": starts at the end of the warm-up and spans the rest of the steps (Swin, torchvision);
    * "linspace": the same, but the last warm-up step already has the peak (ConvNeXt);
    * "under": runs from step 0 over all steps; until the warm-up ends, its value is not used (timm without
      ``--warmup-prefix``, DeiT; TensorFlow's EfficientNets);
    * "joined": as "under", and the warm-up rises to the value that the decay has at the warm-up's end
      (tensorflow/models).

    With ``per_epoch`` (timm's default, torchvision) the clock is the number of finished epochs, and all lengths count
    whole epochs. ``delay_epochs`` starts the clock later, without moving the decay's end: DeiT's loop sets the rate
    after epoch e to the value of epoch e, so that the first two epochs have the first value and none has the last.
    ``cooldown_epochs`` (timm's script, which appends them to its epochs) end the decay before the run.

    Args:
      config: which warm-up and decay; lengths in epochs.
      peak: the highest value.
      total_steps: of the run.
      warmup_steps: of the run, less than ``total_steps``.
      steps_per_epoch: need not be whole.

    Example::

      schedule = make_schedule(ScheduleConfig(), 1.6, total_steps=109_475, warmup_steps=1560, steps_per_epoch=312.8)
      float(schedule(1560))  # 1.6
    """
    unit = steps_per_epoch if config.per_epoch else 1.0
    delay, cooldown = (epochs * steps_per_epoch / unit for epochs in (config.delay_epochs, config.cooldown_epochs))
    rise, total = warmup_steps / unit, total_steps / unit - cooldown
    offset = 0.0 if config.warmup in ("under", "joined") else rise
    span = max(total - offset, 1e-9)
    top = max(rise - 1, 1) if config.warmup == "linspace" else max(rise, 1e-9)
    start = config.start_learning_rate

    def decay(time: jax.Array) -> jax.Array:
        return SCHEDULES[config.name](config, peak, Clock(time, span, unit, steps_per_epoch))

    def schedule(step: int | jnp.ndarray) -> jnp.ndarray:
        clock = jnp.asarray(step, jnp.float32) / unit
        # An epoch's first step may fall short of a whole number by a rounding.
        clock = jnp.floor(clock + 1e-4) if config.per_epoch else clock
        clock = jnp.maximum(clock - delay, 0.0) if delay else clock
        t = jnp.clip(clock - offset, 0.0, span)
        summit = decay(jnp.float32(rise)) if config.warmup == "joined" else peak
        rising = start + (summit - start) * clock / top
        return jnp.where(clock < rise, jnp.minimum(rising, jnp.maximum(summit, start)), decay(t))

    return schedule
