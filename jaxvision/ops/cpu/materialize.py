"""Values that XLA:CPU is made to store, instead of computing them again in each of their users."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.ops import materialize as door


def materialize(x: jax.Array) -> jax.Array:
    """``x``, stored before it is used."""
    return materialize_call(door.identity, x)


@door.materialize_call.register("cpu")
def materialize_call(function: Callable[..., jax.Array], *operands: jax.Array) -> jax.Array:
    """``function(*operands)``, computed inside a conditional whose condition is always true.

    Replaces: XLA:CPU's fusion of elementwise operations into each of their users, which computed every residual sum
    again from all earlier branches of its stage, wherever it was used. XLA does not look into a conditional, and finds
    out that this condition is constant only after its fusions. The derivative is the function's.
    Gain: training ResNet-50 0.83 of timm's speed, before 0.73; timm's RandAugment 5.9 ms an image, before 54.9
    (benchmarks/journal.md).
    Chosen: always; callers ask for it where a value has several users, or one that reads it slowly.
    """
    return _in_conditional(function, *operands)


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
