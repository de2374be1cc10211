"""Which implementation of an operation runs: the one place that asks for the backend.

An operation is a function with one implementation that runs on every backend, by XLA. ``jaxvision.ops.cpu`` and
``jaxvision.ops.gpu`` register faster ones, ``jaxvision.ops.onnx`` those that can be converted to ONNX::

    @operation
    def max_pool_3x3(x): ...                # every backend

    @max_pool_3x3.register("cpu")           # in jaxvision/ops/cpu/pooling.py
    def max_pool_of_slices(x): ...

These packages are optional: without them the operations run as XLA computes them.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Generic, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")

_TARGET: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


@contextlib.contextmanager
def lower_for(backend: str) -> Iterator[None]:
    """Traces what is inside for ``backend`` ("cpu", "gpu", "tpu" or "onnx"), whatever device runs it.

    For tests, and to compile for a device that this machine lacks. "tpu" has no implementations besides XLA's.
    Functions that JAX has already traced keep the implementations they were traced with.
    """
    token = _TARGET.set(backend)
    try:
        yield
    finally:
        _TARGET.reset(token)


def as_xla_computes() -> AbstractContextManager[None]:
    """Traces what is inside by the implementations that run on every backend, to export or to examine it."""
    return lower_for("tpu")


def as_onnx_converts() -> AbstractContextManager[None]:
    """Traces what is inside by the implementations that can be converted to ONNX."""
    return lower_for("onnx")


def target() -> str:
    """The backend whose implementations are used: of :func:`lower_for`, or JAX's default."""
    return _TARGET.get() or jax.default_backend()


class Operation(Generic[P, R]):
    """A function that runs the implementation of the backend it is traced for; made by :func:`operation`.

    Attributes:
      portable: the implementation that runs on every backend.
    """

    def __init__(self, portable: Callable[P, R]) -> None:
        functools.update_wrapper(self, portable)
        self.portable = portable
        self._implementations: dict[str, Callable[P, R]] = {}

    def register(self, backend: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorates the implementation for ``backend``, which takes the same arguments."""

        def add(implementation: Callable[P, R]) -> Callable[P, R]:
            if backend in self._implementations:
                raise ValueError(f"{self.__name__} already has an implementation for {backend!r}")
            self._implementations[backend] = implementation
            return implementation

        return add

    def dispatch(self, backend: str) -> Callable[P, R]:
        """The implementation that runs on ``backend``."""
        return self._implementations.get(backend, self.portable)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.dispatch(target())(*args, **kwargs)


def operation(portable: Callable[P, R]) -> Operation[P, R]:
    """Decorates the implementation of an operation that runs on every backend."""
    return Operation(portable)


def load_implementations() -> None:
    """Imports the packages that register implementations, those that are there."""
    for package in ("jaxvision.ops.cpu", "jaxvision.ops.gpu", "jaxvision.ops.onnx"):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:  # the package is there, but something that it needs is not
                raise
