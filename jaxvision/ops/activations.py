"""The GELU, with a gradient that is computed from its input alone, and ReLU6.

JAX's own GELU keeps a second map from the forward pass, which costs more to write and read than to compute again.
SiLU is left to JAX: XLA computes its sigmoid again by itself, and with a gradient written like the GELU's, training
EfficientNets moved a fifth more bytes (benchmarks/results/gpu_activations_h200_2026-11-23.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.ops.backend import operation
from jaxvision.ops.dtypes import accumulator

Activation = Callable[[jax.Array], jax.Array]


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU (Hendrycks & Gimpel 2016), x times the normal distribution function at x.

    Any float dtype; the gradient is computed in float32 or wider.
    """
    return gelu_value(x)


@operation
def gelu_value(x: jax.Array) -> jax.Array:
    """What :func:`gelu` returns."""
    return nn.gelu(x, approximate=False)


def _gelu_backward(x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    wide = x.astype(accumulator(x.dtype))
    # erf, where the forward pass has erfc: XLA would find the same expression there, and keep its result.
    distribution = 0.5 * (1 + lax.erf(wide * math.sqrt(0.5)))
    density = jnp.exp(-0.5 * jnp.square(wide)) * math.sqrt(0.5 / math.pi)
    return (((distribution + wide * density) * g.astype(wide.dtype)).astype(x.dtype),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)


def relu6(x: jax.Array) -> jax.Array:
    """``min(max(x, 0), 6)``, of any float dtype; its gradient is 0 at both ends, as torch's ``ReLU6``."""
    inside = (x > 0) & (x < 6)
    return jnp.where(inside, x, lax.stop_gradient(jnp.clip(x, 0, 6)))
