"""Which backend's forms are traced, and values that XLA:CPU is made to store."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import lax

_TARGET: contextvars.ContextVar[str | None] = contextvars.ContextVar("formulation", default=None)


@contextlib.contextmanager
def formulation(backend: str) -> Iterator[None]:
    """Uses the forms of ``backend`` ("cpu", "gpu" or "tpu") for what is traced inside, whatever runs it.

    For tests, and to compile for a device that is not there. Functions that JAX has traced
    already keep their form.
    """
    token = _TARGET.set(backend)
    try:
        yield
    finally:
        _TARGET.reset(token)


def target() -> str:
    """The backend whose forms are used: of :func:`formulation`, or JAX's default."""
    return _TARGET.get() or jax.default_backend()


def once(function: Callable[..., jax.Array], *operands: jax.Array) -> jax.Array:
    """``function(*operands)``, stored before it is used, on a CPU.

    XLA:CPU fuses what is elementwise into each of its users. So every residual sum was computed from all earlier
    branches of its stage again, wherever it was used. It does not look into a conditional, and here it finds out
    that the condition is constant too late. The derivative is the function's own.

    Args:
      function: of ``operands``, elementwise or so; with no array of its own.
      operands: arrays.
    """
    return _once(function, *operands) if target() == "cpu" else function(*operands)


def stored(x: jax.Array) -> jax.Array:
    """``x``, computed by :func:`once`."""
    return once(_identity, x)


def _identity(x: jax.Array) -> jax.Array:
    return x


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _once(function: Callable[..., jax.Array], *operands: jax.Array) -> jax.Array:
    y = jax.eval_shape(function, *operands)
    always = lax.optimization_barrier(jnp.array(True))
    return lax.cond(always, function, lambda *_: jnp.zeros(y.shape, y.dtype), *operands)


@_once.defjvp
def _once_jvp(
    function: Callable[..., jax.Array], operands: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    return _once(function, *operands), jax.jvp(function, operands, tangents)[1]
