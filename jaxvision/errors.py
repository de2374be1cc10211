"""Errors that the user can fix, and helpers for their messages."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable, Sequence

from jaxvision.resources import install_command


class UserError(ValueError):
    """An error that the user can fix; the command line prints its message alone, without a traceback."""

    status = 2


class OutOfMemoryError(UserError):
    """The device has too little memory; the message says what to lower."""

    status = 3


class DivergedError(UserError):
    """Too many steps in a row had a loss, gradient or statistic that is NaN or infinite."""

    status = 4


def near_words(word: str, known: Iterable[str]) -> list[str]:
    """The known word nearest to ``word``, whatever the case of its letters, or none where none is near."""
    spelled = {name.lower(): name for name in known}
    return [spelled[near] for near in difflib.get_close_matches(word.lower(), list(spelled), n=1, cutoff=0.6)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean "x"?`` with the known word nearest to ``word``, or an empty string where none is near."""
    near = near_words(word, known)
    return f' Did you mean "{near[0]}"?' if near else ""


def listed(words: Sequence[object], most: int) -> str:
    """``a, b, c and 7 more``: the first ``most`` words, and how many others there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(map(str, words[:most])) + more


def counted(number: int, noun: str) -> str:
    """``1 channel``, ``3 channels``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def require(extra: str, *packages: str) -> None:
    """Checks that the packages of an optional extra can be imported, without importing them.

    Raises:
      UserError: some cannot; the message names them and the command that installs them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"this needs {' and '.join(missing)}: {install_command(extra)}")
