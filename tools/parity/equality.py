"""How far two sides are apart. A NaN or an infinity on either side is a failure, never a difference that gets lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


class NotFiniteError(AssertionError):
    """One of the two sides holds NaN or infinity, so nothing was compared."""


def finite(side: str, values: Any) -> np.ndarray:
    """The values as float64.

    Raises:
      NotFiniteError: one of them is NaN or infinite; ``side`` says whose they are.
    """
    values = np.asarray(values, np.float64)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise NotFiniteError(f"{bad} of {values.size} values of {side} are NaN or infinite")
    return values


def relative_error(actual: Any, expected: Any) -> float:
    """Largest difference over the largest magnitude of the expected array.

    Raises:
      NotFiniteError: one of the two holds NaN or infinity.
    """
    actual, expected = finite("the compared array", actual), finite("the reference", expected)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    return float(np.abs(actual - expected).max() / np.maximum(np.abs(expected).max(), 1e-12))


def largest(errors: Iterable[float]) -> float:
    """The largest of some errors, at least one. (Python's ``max`` passes over a NaN that is not the first.)

    Raises:
      NotFiniteError: one of them is NaN or infinite.
      ValueError: there is none.
    """
    return float(np.max(finite("the errors", list(errors))))
