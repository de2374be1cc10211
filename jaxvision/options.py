"""How a config section states its fields: each once, with default, meaning and what values it takes.

A section is a frozen dataclass beside the code that uses it::

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class EmaConfig:
        decay: float = option(0.9999, "share of the old average that an update keeps", low=0, high=1)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Option:
    """What a field states about itself.

    Attributes:
      meaning: one sentence for a person: what the value does, its unit, and what special values mean.
      choices: the only values allowed; empty where any is.
      low, high: the smallest and the largest value allowed, of a number or of each number in a tuple.
    """

    meaning: str
    choices: tuple[Any, ...] = ()
    low: float = -math.inf
    high: float = math.inf


def option(
    default: Any, meaning: str, *, choices: Sequence[Any] = (), low: float = -math.inf, high: float = math.inf
) -> Any:
    """A dataclass field that carries an :class:`Option`, which config, ``--help`` and ``docs/config.md`` read."""
    return dataclasses.field(default=default, metadata={"option": Option(meaning, tuple(choices), low, high)})
