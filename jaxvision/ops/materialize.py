"""Values that XLA:CPU is made to store, instead of computing them again in each of their users."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.ops.backend import target


def materialize_call(function: Callable[..., jax.Array], *operands: jax.Array) -> jax.Array:
    """``function(*operands)``, stored before it is used, on a CPU.

    XLA:CPU fuses what is elementwise into each of its users. So every residual sum was computed from all earlier
    branches of its stage again, wherever it was used. It does not look into a conditional, and here it finds out
    that the condition is constant too late. The derivative is the function's own.

    Args:
      function: of ``operands``, elementwise or so; with no array of its own.
      operands: arrays.
    """
    return _in_conditional(function, *operands) if target() == "cpu" else function(*operands)


def materialize(x: jax.Array) -> jax.Array:
    """``x``, computed by :func:`materialize_call`."""
    return materialize_call(_identity, x)


def _identity(x: jax.Array) -> jax.Array:
    return x


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _in_conditional(function: Callable[..., jax.Array], *operands: jax.Array) -> jax.Array:
    y = jax.eval_shape(function, *operands)
    always = lax.optimization_barrier(jnp.array(True))
    return lax.cond(always, function, lambda *_: jnp.zeros(y.shape, y.dtype), *operands)


@_in_conditional.defjvp
def _in_conditional_jvp(
    function: Callable[..., jax.Array], operands: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    return _in_conditional(function, *operands), jax.jvp(function, operands, tangents)[1]
