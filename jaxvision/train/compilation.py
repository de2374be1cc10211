"""Compiling ahead of the first step: the cache of compiled programs, and whether their memory suffices."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from jaxvision.data.tfrecord import cache_dir
from jaxvision.errors import OutOfMemoryError

MEMORY_ADVICE = (
    "Lower --config.batch_size or --config.model.image_size, raise --config.accumulate (same batch in smaller parts), "
    "or set --config.model.remat=true."
)


def use_cache() -> None:
    """Has JAX keep programs that take over a second to compile in the user's cache folder, for later processes.

    The environment variable JAX_COMPILATION_CACHE_DIR comes first. A folder that cannot be written to is one warning
    and no cache.
    """
    if jax.config.jax_compilation_cache_dir:
        return
    folder = cache_dir() / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        warnings.warn(
            f"compiled programs are not kept for the next start: {folder} cannot be written to ({error.strerror}). "
            "XDG_CACHE_HOME names another folder, --config.compilation_cache=False goes without",
            stacklevel=2,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def compile_program(program: Callable, *arguments: Any, what: str) -> Callable:
    """Compiles ahead, so that the memory need is known before the first step.

    Raises:
      OutOfMemoryError: XLA's estimate exceeds what the device has; says what to lower.
    """
    with replacing_damaged_entries():
        compiled = program.lower(*arguments).compile()
    analysis = compiled.memory_analysis()
    if analysis is not None:
        need = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes + analysis.output_size_in_bytes
        check_memory(need - analysis.alias_size_in_bytes, memory_limit(), what)
    return compiled


@contextlib.contextmanager
def replacing_damaged_entries() -> Iterator[None]:
    """Deletes an entry of JAX's persistent cache when JAX fails to read it, so that JAX stores the program again.

    JAX itself compiles such a program in every process, because it never overwrites an entry. Its warning names the
    program but not the entry, of which a program's name has many: the entry is the one of that name that JAX has read,
    by its debug messages.
    """
    keys: list[str] = []
    with _listening(keys), warnings.catch_warnings():
        warnings.filterwarnings("always", "Error reading persistent compilation cache entry")
        # A program that calls oneDNN cannot be stored, which the user can do nothing about.
        warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry")
        show = warnings.showwarning

        def delete(message: Warning | str, *details: Any) -> None:
            name = re.match("Error reading persistent compilation cache entry for '(.+?)'", str(message))
            if name is None:
                show(message, *details)
                return
            folder = Path(jax.config.jax_compilation_cache_dir)
            damaged = [key for key in keys if key.startswith(f"{name[1]}-")][-1:]
            # Every entry of this name, if JAX has changed its messages.
            for entry in folder.glob(f"{damaged[0] if damaged else name[1] + '-*'}-cache"):
                entry.unlink(missing_ok=True)

        warnings.showwarning = delete
        yield


@contextlib.contextmanager
def _listening(keys: list[str]) -> Iterator[None]:
    """Appends to ``keys`` those of the entries of the persistent cache that JAX reads."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if hit := re.match("Cache hit for key: '(.+)'", record.getMessage()):
                keys.append(hit[1])

    logger, listener = logging.getLogger("jax._src.lru_cache"), Listener()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagate


def memory_limit() -> int | None:
    """Bytes of one device's memory, on a CPU of the machine's memory; None if unknown."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def check_memory(need: int, limit: int | None, what: str) -> None:
    """Raises an ``OutOfMemoryError`` where ``need`` bytes exceed ``limit``."""
    if limit is not None and need > limit:
        raise OutOfMemoryError(
            f"{what} needs about {need / 2**30:.1f} GiB by XLA's estimate; the device has {limit / 2**30:.1f} GiB. "
            + MEMORY_ADVICE
        )
