"""Maps that are multiplied by a factor and shifted by a summand for each channel: normalisation and gates."""

from __future__ import annotations

from typing import NamedTuple

import jax

from jaxvision.ops.activations import Activation
from jaxvision.ops.backend import operation
from jaxvision.ops.convolution import bias_add_act
from jaxvision.ops.dtypes import DType
from jaxvision.ops.materialize import materialize_call


class ScaleShift(NamedTuple):
    """The factor and the summand of a map's channels, (N, C) or (1, C) each: ``scale * x + shift``."""

    scale: jax.Array
    shift: jax.Array


def scale_shift(
    x: jax.Array,
    scale: jax.Array,
    shift: jax.Array | None = None,
    add: jax.Array | None = None,
    activation: Activation | None = None,
) -> jax.Array:
    """``activation(scale * x + shift + add)``, of those that are not None.

    Args:
      x: (N, H, W, C).
      scale, shift: (N, 1, 1, C) or (1, 1, 1, C).
      add: (N, H, W, C), a residual block's shortcut.
      activation: elementwise.
    """
    terms = [term for term in (shift, add) if term is not None]
    if not terms:
        return bias_add_act(x * scale, None, None, activation)
    # The multiplication is inside: outside, its result would be stored, too.
    return materialize_call(
        lambda x, scale, *terms: bias_add_act(sum(terms, x * scale), None, None, activation), x, scale, *terms
    )


@operation
def defers_normalization(dtype: DType) -> bool:
    """Whether training should hand a convolution's map to a channel gate together with its normalisation's ScaleShift.

    The gate then computes its means from the unnormalised map's, and applies normalisation and gate as one
    :func:`scale_shift`: the normalised map is never stored. Otherwise the gate is given the normalised map.

    Args:
      dtype: that the normalisation returns.
    """
    return False
