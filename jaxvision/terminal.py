"""Text for terminals of any width, and standard streams that may fail while a run goes on. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import TextIO

BROKEN_PIPE = 141  # 128 + SIGPIPE: as shells report a program whose reader is gone
_COMMANDS = ("  python ", "  pip ", "  make ")
WIDEST = 120  # columns of a line that one still reads with ease


def columns(stream: TextIO | None) -> int | None:
    """The length of lines on a stream: the terminal's width, at most 120; None where it is no terminal."""
    if stream is None or not stream.isatty():
        return None
    try:
        return min(int(os.environ.get("COLUMNS", "")) or 80, WIDEST)
    except ValueError:
        pass
    try:
        return min(os.get_terminal_size(stream.fileno()).columns or 80, WIDEST)
    except OSError:
        return 80


def fitted(text: str, width: int | None, hang: int = 2) -> str:
    """Text with its long lines broken between words; a width of None leaves it as it is.

    What follows a break is indented by ``hang`` more than the line. So that they can be copied, a word that is longer
    than a line, such as a path, stays in one piece, and an indented command goes on after a backslash.
    """
    if width is None:
        return text
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())] + " " * hang
        command = line.startswith(_COMMANDS) and len(line) > width
        parts = textwrap.wrap(
            line, width - 2 * command, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
            replace_whitespace=False,
        ) or [""]  # fmt: skip
        lines += [f"{part} \\" for part in parts[:-1]] if command else parts[:-1]
        lines.append(parts[-1])
    return "\n".join(lines)


def print_error(message: object) -> None:
    """Prints ``error: message`` on the error stream, fitted to its terminal."""
    with contextlib.suppress(OSError):
        print(fitted(f"error: {message}", columns(sys.stderr)), file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Prints a line on the output stream, fitted to its terminal."""
    print(fitted(text, columns(sys.stdout)), flush=True)


def open_missing_streams() -> None:
    """Lets a program that was started without standard streams, as by ``>&-``, print into nothing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115


def discard(stream: TextIO) -> None:
    """Lets everything that is written to a stream from now on, also what it still holds, go nowhere."""
    with contextlib.suppress(OSError):  # a stream of a test has no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


class Lasting(io.TextIOBase):
    """A stream that never fails: what cannot be written is lost, and the program goes on.

    A reader that is gone, of a pipe or a terminal, does not come back: the stream is discarded. A full disk may get
    room again: later text is tried.

    Args:
      stream: the standard output or the error stream.
      failed: called once, with the reason, at the first text that is lost.
    """

    def __init__(self, stream: TextIO, failed: Callable[[str], None] = lambda reason: None) -> None:
        self._stream, self._failed, self._told = stream, failed, False

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if error.errno in (errno.EPIPE, errno.EIO):
            discard(self._stream)
        if not self._told:
            self._told = True
            self._failed(error.strerror or str(error))

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:
        return self._stream.encoding


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Makes both standard streams :class:`Lasting`: a run whose output nobody reads any more goes on.

    Where the standard output fails, the error stream says so.
    """

    def warn(reason: str) -> None:
        text = (
            f"warning: the standard output failed ({reason}): the run goes on, and writes its records and checkpoints"
        )
        print(fitted(text, columns(sys.stderr)), file=sys.stderr, flush=True)

    own = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Lasting(own[0], warn), Lasting(own[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = own
        for stream in own:
            try:
                stream.flush()
            except OSError:  # or Python would try it again at its end, and change the exit status
                discard(stream)
