"""Layer normalisation for ONNX."""

from __future__ import annotations

import flax.linen as nn
import jax

from jaxvision.ops.dtypes import DType, accumulator
from jaxvision.ops.normalization import layer_norm


@layer_norm.register("onnx")
def flax_layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: DType) -> jax.Array:
    """Layer normalisation by flax's module, of which jax2onnx makes ONNX's operation of that name.

    Replaces: nine operations, which ONNX Runtime does not make one of.
    Chosen: always.
    """
    layer = nn.LayerNorm(epsilon=eps, parent=None)  # otherwise it would be a part of the layer that calls it
    return layer.apply({"params": {"scale": scale, "bias": bias}}, x.astype(accumulator(x.dtype))).astype(dtype)
