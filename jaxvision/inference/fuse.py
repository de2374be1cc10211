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


def fuse(module: nn.Module, variables: Variables, in_chans: int) -> Variables:
    """Variables for inference: :func:`fold`, then :func:`cast`."""
    return cast(module, fold(module, variables, in_chans), in_chans)


def pairs(module: nn.Module, in_chans: int) -> list[tuple[Path, Path, float]]:
    """(convolution, normalisation, epsilon) wherever the normalisation's input is the convolution's result.

    Found by tracing the network, so there is no table of names to maintain.
    """
    produced: dict[int, tuple[Path, Any]] = {}  # with the arrays, whose ids could be reused if they were freed
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

    height, width = module.image_size or (64, 64)
    jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, height, width, in_chans), jnp.float32))


def cast(module: nn.Module, variables: Variables, in_chans: int) -> Variables:
    """Variables whose weights of convolutions (with biases) and linear layers are stored in the compute dtype.

    Otherwise every call casts them, one kernel each: of 164 kernels of a bfloat16 ResNet-50's inference on a GPU, 106
    are casts. The arithmetic is the same, except that XLA may skip the rounding of a weight that is cast to be used in
    float32 (depthwise convolutions on a CPU).
    """
    params, layers = _copied(variables["params"]), {}

    def watch(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "__call__" and isinstance(context.module, Conv | Linear | Projections):
            layers[context.module.path] = context.module
        return call(*args, **kwargs)

    _traced(module, in_chans, watch)
    for path, layer in layers.items():
        leaves = _at(params, path)
        # A linear layer's bias is added to a sum that may be wider.
        for name in ("weight", "bias") if isinstance(layer, Conv) else ("weight",):
            if name in leaves:
                leaves[name] = jnp.asarray(leaves[name], layer.dtype)
    return {**variables, "params": params}


def fold(module: nn.Module, variables: Variables, in_chans: int) -> Variables:
    """Variables without the normalisations of :func:`pairs`, whose convolutions compute them by weight and bias.

    With s = scale / sqrt(var + eps) the weight is weight s and the bias (bias - mean) s + shift, computed in float64 on
    the host and stored as float32.
    """
    params, stats = _copied(variables["params"]), _copied(variables["batch_stats"])
    for conv, norm, eps in pairs(module, in_chans):
        own, running = _take(params, norm), _take(stats, norm)
        wide = {k: np.asarray(v, np.float64) for k, v in (own | running).items()}
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
    """Removes and returns a subtree, and the parents that it leaves empty."""
    if len(path) == 1:
        return tree.pop(path[0])
    below = tree[path[0]]
    taken = _take(below, path[1:])
    if not below:
        del tree[path[0]]
    return taken
