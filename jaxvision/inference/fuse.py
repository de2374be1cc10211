"""Variables for inference: batch normalisation folded into the convolution in front of it, weights in compute dtype."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.models.layers import BatchNorm, Conv, Linear, Projections
from jaxvision.models.variables import Variables

Path = tuple[str, ...]


def pairs(module: nn.Module, in_chans: int) -> list[tuple[Path, Path, float]]:
    """(convolution, normalisation, epsilon) wherever the one's result goes straight into the other.

    Found by tracing: no table of names, and nothing to keep in step with the models.
    """
    produced: dict[int, tuple[Path, Any]] = {}  # the arrays are kept, so that their ids stay theirs
    found: list[tuple[Path, Path, float]] = []

    def watch(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if context.method_name == "__call__" and isinstance(layer, BatchNorm) and id(args[0]) in produced:
            found.append((produced[id(args[0])][0], layer.path, layer.eps))
        result = call(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(layer, Conv):
            produced[id(result)] = (layer.path, result)
        return result

    _traced(module, in_chans, watch)
    return found


def _traced(module: nn.Module, in_chans: int, watch: Any) -> None:
    """Traces the module in evaluation with every method call going through ``watch``."""

    def init(key: jax.Array, image: jax.Array) -> Any:
        with nn.intercept_methods(watch):
            return module.clone(remat=False).init(key, image, train=False)

    height, width = getattr(module, "image_size", (64, 64))
    jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, height, width, in_chans), jnp.float32))


def cast(module: nn.Module, variables: Variables, in_chans: int) -> Variables:
    """Variables whose convolutions (with biases) and matrices are stored in the compute dtype.

    They are cast to it on every call otherwise, a kernel each: of 164 kernels that XLA compiles a bfloat16
    ResNet-50's inference to for a GPU, 106 are these. The arithmetic is the same, but that XLA may otherwise skip the
    rounding of a weight where it computes in float32 (depthwise convolutions on CPU).
    """
    params, layers = _copied(variables["params"]), {}

    def watch(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "__call__" and isinstance(context.module, Conv | Linear | Projections):
            layers[context.module.path] = context.module
        return call(*args, **kwargs)

    _traced(module, in_chans, watch)
    for path, layer in layers.items():
        leaves = _at(params, path)
        # A linear layer's bias is added to a wider product.
        for name in ("weight", "bias") if isinstance(layer, Conv) else ("weight",):
            if name in leaves:
                leaves[name] = jnp.asarray(leaves[name], layer.dtype)
    return {**variables, "params": params}


def fold(module: nn.Module, variables: Variables, in_chans: int) -> Variables:
    """Variables without the folded normalisations; their convolutions have a bias instead.

    With s = scale / sqrt(var + eps): weight s, and (bias - mean) s + shift, in float64 on the host.
    """
    params, stats = _copied(variables["params"]), _copied(variables["batch_stats"])
    for conv, norm, eps in pairs(module, in_chans):
        affine, running = _take(params, norm), _take(stats, norm)
        wide = {k: np.asarray(v, np.float64) for k, v in (affine | running).items()}
        scale = wide["weight"] / np.sqrt(wide["running_var"] + eps)
        layer = _at(params, conv)
        weight = np.asarray(layer["weight"], np.float64)
        bias = np.asarray(layer["bias"], np.float64) if "bias" in layer else 0.0
        layer["weight"] = jnp.asarray(weight * scale[:, None, None, None], jnp.float32)
        layer["bias"] = jnp.asarray((bias - wide["running_mean"]) * scale + wide["bias"], jnp.float32)
    return {"params": params, "batch_stats": stats}


def _copied(tree: Any) -> Any:
    return {key: _copied(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _at(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    for entry in path:
        tree = tree[entry]
    return tree


def _take(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    """Removes and returns a subtree; emptied folders go, too."""
    if len(path) == 1:
        return tree.pop(path[0])
    below = tree[path[0]]
    taken = _take(below, path[1:])
    if not below:
        del tree[path[0]]
    return taken
