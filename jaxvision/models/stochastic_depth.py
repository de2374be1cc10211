"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382): how the rate depends on the block."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Rates = tuple[tuple[float, ...], ...]


def linear_rates(rate: float, depths: Sequence[int]) -> Rates:
    """``rate * i / (L - 1)`` for block i of L: from 0 to the rate (timm, Swin, ConvNeXt, DeiT)."""
    last = max(sum(depths) - 1, 1)
    return _by_index(depths, lambda i: rate * i / last)


def open_linear_rates(rate: float, depths: Sequence[int]) -> Rates:
    """``rate * i / L`` for block i of L: the last block stays below the rate (EfficientNet)."""
    total = sum(depths)
    return _by_index(depths, lambda i: rate * i / total)


def stage_rates(rate: float, depths: Sequence[int]) -> Rates:
    """``rate * (s + 2) / (S + 1)`` for all blocks of stage s of S, from 0 (ResNet-RS)."""
    return tuple((rate * (s + 2) / (len(depths) + 1),) * depth for s, depth in enumerate(depths))


def constant_rates(rate: float, depths: Sequence[int]) -> Rates:
    """The rate, for every block (DeiT-III's ``models_v2.py``)."""
    return tuple((rate,) * depth for depth in depths)


# (rate, blocks of each stage) to the rate of each block, stage by stage.
DROP_PATH_RULES: dict[str, Callable[[float, Sequence[int]], Rates]] = {
    "linear": linear_rates,
    "open_linear": open_linear_rates,
    "stage": stage_rates,
    "constant": constant_rates,
}


def _by_index(depths: Sequence[int], rate_of: Callable[[int], float]) -> Rates:
    starts = [sum(depths[:s]) for s in range(len(depths))]
    return tuple(tuple(rate_of(start + b) for b in range(depth)) for start, depth in zip(starts, depths, strict=True))
