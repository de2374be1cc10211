"""One run per workdir: a lock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxvision.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = ".lock"


@contextlib.contextmanager
def locked(workdir: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a workdir, so that no second run trains in it.

    The operating system releases it when the process ends, by ``kill -9`` too, so a dead run never blocks the next one.
    The file stays; it names the process that held the lock last.

    Args:
      workdir: an existing folder.
      warn: called with one line where the file system has no locks: then nothing is guarded.

    Raises:
      UserError: another process holds it; the message names its host, number and start.
      OSError: the file cannot be created.
    """
    with (workdir / NAME).open("a+", encoding="utf-8") as file:
        if not _lock(file.fileno(), warn):
            raise UserError(
                f"{workdir} is in use: {_holder(file.name)} trains in it.\n"
                "Wait until that run ends, stop it, or choose another --workdir."
            )
        file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        file.write(json.dumps({"host": socket.gethostname(), "process": os.getpid(), "started": started}) + "\n")
        file.flush()
        yield


def _lock(descriptor: int, warn: Callable[[str], None]) -> bool:
    """Takes the lock; False where another process has it."""
    problem = "this system has no flock"
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError as error:  # some network file systems
            problem = error.strerror
    warn(f"the workdir cannot be locked ({problem}): take care that no second run uses it")
    return True


def _holder(path: str) -> str:
    try:
        holder = json.loads(Path(path).read_text(encoding="utf-8"))
        return f"process {holder['process']} on {holder['host']}, started {holder['started']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
