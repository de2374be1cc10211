"""A terminal for tests, which shows what a person would see on its screen."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterator

import pytest

_CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\][^\x07]*\x07|[\r\n]")


class Screen:
    """The lines that text with control codes leaves; only the codes that rich's live display sends are known."""

    def __init__(self, columns: int) -> None:
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0
        self.cursor_shown = True

    def feed(self, text: str) -> None:
        at = 0
        for match in _CONTROL.finditer(text):
            self._write(text[at : match.start()])
            at = match.end()
            if match[0] == "\r":
                self.column = 0
            elif match[0] == "\n":
                self._down()
            elif match[2] == "A":
                self.row = max(self.row - int(match[1] or 1), 0)
            elif match[2] == "K":
                assert match[1] == "2", match[0]
                self.lines[self.row] = ""
            elif match[1] == "?25":
                self.cursor_shown = match[2] == "h"
            else:
                assert match[2] in ("m", None), f"unknown control code {match[0]!r}"
        self._write(text[at:])

    def _down(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")

    def _write(self, text: str) -> None:
        for letter in text:
            if self.column == self.columns:  # the terminal itself breaks the line
                self._down()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


@contextlib.contextmanager
def attached(monkeypatch: pytest.MonkeyPatch, columns: int, term: str = "xterm-256color") -> Iterator[list[str]]:
    """This process prints to a terminal; the list is of its screen after every write, the last one what stays."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("COLUMNS", str(columns)), ("LINES", "40"), ("TERM", term)):
        monkeypatch.setenv(name, value)
    screen, shots = Screen(columns), []

    def watch() -> None:
        decode = codecs.getincrementaldecoder("utf-8")().decode
        with contextlib.suppress(OSError):  # EIO: nobody writes any more
            while data := os.read(leader, 65536):
                screen.feed(decode(data))
                if screen.text() != (shots[-1] if shots else ""):
                    shots.append(screen.text())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with os.fdopen(follower, "w", buffering=1, encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield shots
    watcher.join()
    os.close(leader)
    assert screen.cursor_shown, "the cursor stays hidden"
