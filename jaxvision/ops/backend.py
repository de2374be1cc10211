"""Which backend a program is traced for: the one question that decides between implementations."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_TARGET: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


@contextlib.contextmanager
def lower_for(backend: str) -> Iterator[None]:
    """Traces what is inside for ``backend`` ("cpu", "gpu" or "tpu"), whatever device runs it.

    For tests, and to compile for a device that is not there. Functions that JAX has traced before keep the
    implementations they were traced with.
    """
    token = _TARGET.set(backend)
    try:
        yield
    finally:
        _TARGET.reset(token)


def target() -> str:
    """The backend whose implementations are used: of :func:`lower_for`, or JAX's default."""
    return _TARGET.get() or jax.default_backend()
