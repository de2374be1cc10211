"""What an attack is, and how one attempt of it is judged."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxvision.errors import UserError


class Failure(Exception):
    """What was attacked gave a wrong answer without a word."""


@dataclasses.dataclass(frozen=True)
class Attack:
    """A way to do harm.

    Attributes:
      name: of the table's row.
      what: in one line, what is done and what has to hold.
      prepare: called once with an empty folder; returns what ``attempt`` gets.
      attempt: called with that, a random generator and an empty folder. It returns a word for how it held, such as
        "fell back"; it raises :class:`Failure` where it did not. A ``UserError`` is a clear refusal.
      seconds: an attempt that takes longer hangs.
    """

    name: str
    what: str
    prepare: Callable[[Path], Any]
    attempt: Callable[[Any, random.Random, Path], str]
    seconds: int = 30


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How one attempt ended.

    Attributes:
      held: whether nothing was lost, silent or unclear.
      word: for the count of the table.
      detail: of a failure, what is to be seen.
      duration: seconds.
    """

    held: bool
    word: str
    detail: str
    duration: float


def judge(attack: Attack, prepared: Any, seed: str, folder: Path) -> Outcome:
    """Makes one attempt; the same ``seed`` makes the same one."""
    began = time.monotonic()
    try:
        with _time_limit(attack.seconds):
            held, word, detail = True, attack.attempt(prepared, random.Random(seed), folder), ""
    except UserError as error:
        held, word, detail = True, "refused", str(error)
    except Failure as error:
        held, word, detail = False, "SILENT", str(error)
    except TimeoutError:
        held, word, detail = False, "HUNG", f"over {attack.seconds} s"
    except Exception as error:  # any other error would be a user's traceback
        where = " < ".join(frame.name for frame in reversed(traceback.extract_tb(error.__traceback__)[-4:]))
        held, word, detail = False, "TRACEBACK", f"{type(error).__name__}: {error} in {where}"
    return Outcome(held, word, detail[:500], time.monotonic() - began)


@contextlib.contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def expire(number: int, frame: object) -> None:
        raise TimeoutError

    earlier = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)


def damage(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one or a few of them changed, cut off, inserted, repeated or set to zero."""
    changed, how = bytearray(data), rng.randrange(6)
    at = rng.randrange(len(changed)) if changed else 0
    length = min(rng.choice((1, 2, 8, 64)), len(changed) - at)
    if how == 0:
        for _ in range(rng.choice((1, 1, 3))):
            if changed:
                place = rng.randrange(len(changed))
                changed[place] ^= 1 << rng.randrange(8)
    elif how == 1:
        del changed[at:]
    elif how == 2:
        changed[at : at + length] = rng.randbytes(length)
    elif how == 3:
        changed[at : at + length] = bytes(length)
    elif how == 4:
        changed[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
    else:
        changed[at:at] = changed[at : at + length]
    return bytes(changed)
