"""Matrix multiplications of pixels or tokens with a weight."""

from __future__ import annotations

import jax
from jax import lax

from jaxvision.ops.backend import operation
from jaxvision.ops.dtypes import DType


@operation
def linear(x: jax.Array, weight: jax.Array, bias: jax.Array | None, dtype: DType) -> jax.Array:
    """``x @ weight.T + bias``, computed in ``x``'s dtype.

    Args:
      x: (..., I).
      weight: (O, I), of any float dtype.
      bias: (O,), of any float dtype.
      dtype: of the result.

    Returns:
      (..., O).
    """
    # The result has the dtype asked for from the start: on a GPU a wider one would be written to memory.
    y = lax.dot_general(x, weight.astype(x.dtype), (((x.ndim - 1,), (1,)), ((), ())), preferred_element_type=dtype)
    return y if bias is None else y + bias.astype(dtype)
