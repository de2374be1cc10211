"""Stochastic depth of EfficientNets: which blocks of a network have a shortcut, and their rates."""

from __future__ import annotations

import math
import re

V1 = "1.1.32.16 2.2.16.24 2.2.24.40 3.2.40.80 3.1.80.112 4.2.112.192 1.1.192.320"
V2 = {
    "b": "1.1.32.16 2.2.16.32 2.2.32.48 3.2.48.96 5.1.96.112 8.2.112.192",
    "s": "2.1.24.24 4.2.24.48 4.2.48.64 6.2.64.128 9.1.128.160 15.2.160.256",
    "m": "3.1.24.24 5.2.24.48 5.2.48.80 7.2.80.160 14.1.160.176 18.2.176.304 5.1.304.512",
    "l": "4.1.32.32 7.2.32.64 7.2.64.96 10.2.96.192 19.1.192.224 25.2.224.384 7.1.384.640",
}  # repeats.stride.input.output of each stage


def filters(count: int, width: float, keep_nine_tenths: bool) -> int:
    """Channels after scaling, a multiple of 8."""
    scaled = count * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if keep_nine_tenths and rounded < 0.9 * scaled else rounded


def depth(stages: str, width: float, depth: float, rate: float, keep_nine_tenths: bool) -> list[float | None]:
    """The rate of each block: ``rate * block / blocks``; None for a block without a shortcut.

    Args:
      stages: as in ``V1`` and ``V2``.
      width: factor of the channels.
      depth: factor of the repeats, rounded up.
      rate: one minus the survival probability.
      keep_nine_tenths: whether rounding may not lose more than a tenth of the channels.
    """
    shortcuts = []
    for stage in stages.split():
        repeats, stride, before, after = map(int, re.findall(r"\d+", stage))
        same = filters(before, width, keep_nine_tenths) == filters(after, width, keep_nine_tenths)
        shortcuts += [stride == 1 and same] + [True] * (math.ceil(depth * repeats) - 1)
    return [rate * i / len(shortcuts) if shortcut else None for i, shortcut in enumerate(shortcuts)]
