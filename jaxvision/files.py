"""Atomic replacement of files, so that no reader or crash leaves or sees a part of one; and checks before reading."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from jaxvision.errors import UserError


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


def check_regular(path: Path) -> None:
    """Refuses an existing path that is neither a regular file nor a link to one; reading a pipe would wait forever.

    Raises:
      UserError: what it is instead.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} must be a regular file, it is {_kind(path)}: delete or rename it")


def read_regular(path: str | Path, *, most: int) -> bytes:
    """The content of a regular file, or of a link to one.

    Args:
      path: of the file.
      most: bytes; of a larger file nothing is read.

    Raises:
      OSError: it cannot be opened or read.
      ValueError: it is larger, or a pipe or a device, which could make the reader wait forever or read without end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # without O_NONBLOCK, opening a pipe waits for a writer
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"not a regular file but {_kind(Path(path))}")
        if status.st_size > most:
            raise ValueError(f"a file of {status.st_size} bytes: at most {most} are read")
        data = os.read(descriptor, status.st_size)
        while len(data) < status.st_size and (more := os.read(descriptor, status.st_size - len(data))):
            data += more  # some network file systems return less than was asked for
        return data
    finally:
        os.close(descriptor)


def check_folder(path: Path) -> None:
    """Refuses an existing path that is no folder.

    Raises:
      UserError: what it is instead.
    """
    if (path.exists() or path.is_symlink()) and not path.is_dir():
        raise UserError(f"{path} must be a folder, it is {_kind(path)}: delete or rename it")


def _kind(path: Path) -> str:
    kinds = {
        "a folder": path.is_dir,
        "a regular file": path.is_file,
        "a pipe": path.is_fifo,
        "a socket": path.is_socket,
        "a device": lambda: path.is_block_device() or path.is_char_device(),
        "a link to nothing": lambda: not path.exists(),
    }
    return next((name for name, test in kinds.items() if test()), "of another kind")


def workdir_hint(folder: Path) -> str | None:
    """What to write instead of a training run's workdir where a model is wanted; None where it is no workdir."""
    if not (folder.expanduser() / "checkpoints").is_dir():
        return None
    return (
        f"it is the workdir of a training run: `jaxvision publish {folder} --out DIR` makes of it a folder for "
        '"local-dir:DIR", and tools take --weights'
    )
