"""The errors that are the user's to mend, and the "did you mean" helper."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user asked for; printed as one message, without a traceback."""

    status = 2


class OutOfMemoryError(UserError):
    """The device's memory does not suffice; the message says what to lower."""

    status = 3


class DivergedError(UserError):
    """Too many steps in a row were not finite."""

    status = 4


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean "x"?`` with the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' Did you mean "{near[0]}"?' if near else ""
