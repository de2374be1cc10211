"""Facts of a recipe as its source states them: a value, and the repository, commit, file and lines it was read from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

PARTS = 40  # equal parts of a run, of which a sequence has the means


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository at one commit."""

    name: str
    commit: str

    def at(self, *places: str) -> str:
        """Where a fact is written: ``owner/name@commit file:lines; file:lines``."""
        return f"{self.name}@{self.commit[:12]} {'; '.join(places)}"


@dataclasses.dataclass(frozen=True)
class Fact:
    """A value and where it is written. ``value=None``: the source does not state it."""

    value: Any
    where: str


Facts = dict[str, Fact]


def number(value: float) -> float:
    """A float with nine significant digits."""
    return float(f"{float(value):.9g}")


def rounded(value: Any) -> Any:
    """Every float of a nested value with nine significant digits, and arrays and tuples as lists."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [rounded(item) for item in value]
    if isinstance(value, float | np.floating):
        return number(value)
    return value.item() if isinstance(value, np.generic) else value


def sample_steps(total: int, per_epoch: float, warmup: int) -> list[int]:
    """The steps at which a sequence is written down: both ends, around the end of the warm-up and some epochs' ends."""
    edges = [0, 1, 2, total - 3, total - 2, total - 1, warmup - 1, warmup, warmup + 1]
    for epoch in (1, 2, 7, round(total / per_epoch / 2)):
        edge = int(np.ceil(epoch * per_epoch))
        edges += [edge - 1, edge, edge + 1]
    spread = np.linspace(0, total - 1, 25).astype(int).tolist()
    return sorted({step for step in edges + spread if 0 <= step < total})


def sequence(
    rate: Callable[[np.ndarray], np.ndarray], total: int, per_epoch: float, warmup_epochs: float, epochs: float
) -> dict[str, Any]:
    """A sequence over a whole run: its values at some steps and its mean over each of forty equal parts.

    Args:
      rate: the value at each of many steps, counted from 0.
      total: steps of the run.
      per_epoch: steps per epoch, a fraction where the source does not round.
      warmup_epochs: length of the warm-up.
      epochs: length of the run.
    """
    steps = sample_steps(total, per_epoch, round(warmup_epochs * per_epoch))
    values = np.asarray(rate(np.arange(total)), np.float64)
    assert values.shape == (total,) and np.isfinite(values).all()
    return {
        "epochs": epochs,
        "steps per epoch": per_epoch,
        "steps": total,
        "values": [[step, values[step]] for step in steps],
        "means": [part.mean() for part in np.array_split(values, PARTS)],
    }


def by_epoch(values: list[float], per_epoch: int) -> Callable[[np.ndarray], np.ndarray]:
    """A rate that changes between epochs only."""
    return lambda steps: np.asarray(values)[steps // per_epoch]


UPDATES = (0, 1, 2, 9, 100, 200, 201, 1000, 10_000, 89_987, 89_990, 200_000)  # of an EMA, at which decays are written


def average(decay: Callable[[int], float], every: int = 1) -> dict[str, Any]:
    """An EMA: the share of the old average that each update keeps, by the update's number from 0.

    Args:
      decay: the share at an update.
      every: steps from one update to the next.
    """
    return {"every": every, "decays": [[update, decay(update)] for update in UPDATES]}
