"""Learning-rate schedules: functions of the step, in optimizer steps."""

from __future__ import annotations

import optax


def warmup_cosine(
    peak: float, *, warmup_steps: int, total_steps: int, start: float = 0.0, end: float = 0.0
) -> optax.Schedule:
    """Linear from ``start`` to ``peak`` over ``warmup_steps``, then a cosine to ``end`` at ``total_steps``.

    The value is set per step; the cosine starts after the warm-up (tensorflow/models and ConvNeXt's convention).

    Example::

      schedule = warmup_cosine(1.6, warmup_steps=1560, total_steps=109_475)
      float(schedule(1560))  # 1.6
    """
    return optax.warmup_cosine_decay_schedule(start, peak, warmup_steps, max(total_steps, warmup_steps + 1), end)
