"""Atomic replacement of files: neither a reader nor a crash leaves or sees a partial file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file under a temporary name in the same folder, then renames it to ``path``.

    Missing folders are created. Where ``write`` fails, its file is deleted and what was under ``path`` stays.

    Args:
      path: the file to write, or to replace.
      write: writes the whole content to the path it is called with, which has the suffix of ``path``.

    Raises:
      OSError: the folder cannot be created or written to; whatever ``write`` raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not named by the process alone: processes in containers share their numbers, and may share a disk.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        write(temporary)
        # Without it a power cut after the rename can leave an empty file.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """:func:`replace_file` with UTF-8 text; newlines are written as they are."""
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline=""))
