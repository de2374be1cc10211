"""Values that are stored in memory before they are used, where XLA would compute them again in each of their users."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxvision.ops.backend import operation


@operation
def materialize_call(function: Callable[..., jax.Array], *operands: jax.Array) -> jax.Array:
    """``function(*operands)``, stored before it is used on backends that would compute it several times.

    Args:
      function: of ``operands``, elementwise or nearly so; it must use no other array.
      operands: arrays.
    """
    return function(*operands)


def materialize(x: jax.Array) -> jax.Array:
    """``x``, stored before it is used; see :func:`materialize_call`."""
    return materialize_call(identity, x)


def identity(x: jax.Array) -> jax.Array:
    """``x``."""
    return x
