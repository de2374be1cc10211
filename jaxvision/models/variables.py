"""A module's variables: their shapes, fresh values, and what belongs to the classifier."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models import initializers

Variables = dict[str, Any]


@functools.lru_cache(maxsize=16)
def shapes(module: nn.Module, in_chans: int = 3, output: str = "logits") -> Variables:
    """The boxed variables of a module without allocating: leaves are ``ShapeDtypeStruct``s. Not to be changed.

    Tracing a deep network takes a second, and loading a checkpoint asks more than once.
    """
    height, width = getattr(module, "image_size", (64, 64))  # any size gives convolutions' shapes
    image = jax.ShapeDtypeStruct((1, height, width, in_chans), jnp.float32)
    init = functools.partial(module.init, train=False, output=output)
    return jax.eval_shape(init, jax.random.key(0), image)


def init_variables(module: nn.Module, key: jax.Array, in_chans: int = 3) -> Variables:
    """Fresh float32 variables of a module, as numpy arrays; see :mod:`jaxvision.models.initializers`."""
    boxed = shapes(module, in_chans)
    stats = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (initializers.ones if path[-1].key == "running_var" else initializers.zeros)(
            None, leaf.shape
        ),
        boxed.get("batch_stats", {}),
    )
    return {"params": initializers.draw(boxed["params"], key), "batch_stats": stats}


def classifier_names(module: nn.Module, in_chans: int) -> set[str]:
    """Top-level modules that exist for logits but not for embeddings."""
    return set(shapes(module, in_chans)["params"]) - set(shapes(module, in_chans, "embed")["params"])


def flat_shapes(module: nn.Module, in_chans: int) -> dict[str, tuple[int, ...]]:
    """Dotted parameter names and their shapes."""
    tree = initializers.unboxed(shapes(module, in_chans)["params"])
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {".".join(entry.key for entry in path): leaf.shape for path, leaf in leaves}
