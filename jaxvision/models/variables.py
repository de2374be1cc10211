"""The variables of a network: their shapes and initial values, and which belong to the classifier."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError
from jaxvision.models import initializers
from jaxvision.models.classifier import Classifier

Variables = dict[str, Any]


@functools.lru_cache(maxsize=16)
def shapes(module: Classifier, in_chans: int = 3, output: str = "logits") -> Variables:
    """Shapes of the variables that computing ``output`` needs, as ``ShapeDtypeStruct``s in boxes of their initializers.

    Cached, because tracing a deep network takes a second and loading a checkpoint asks more than once: do not modify
    the result.
    """
    height, width = module.image_size or (64, 64)  # where any size will do, the shapes do not depend on it
    image = jax.ShapeDtypeStruct((1, height, width, in_chans), jnp.float32)
    init = functools.partial(module.init, train=False, output=output)
    return jax.eval_shape(init, jax.random.key(0), image)


@functools.lru_cache(maxsize=16)
def unpooled_shape(module: Classifier, in_chans: int) -> tuple[int, ...]:
    """Shape of what the network pools for one image: of its own size or, where it takes any, of 64 pixels."""
    image = jax.ShapeDtypeStruct((1, *(module.image_size or (64, 64)), in_chans), jnp.float32)
    run = functools.partial(module.init_with_output, train=False, output="unpooled")
    return jax.eval_shape(run, jax.random.key(0), image)[0].shape


def check_key(key: Any) -> None:
    """Checks that this is one key of ``jax.random``, typed or not.

    Raises:
      UserError: it is something else, such as a seed.
    """
    kind = getattr(key, "dtype", None)
    typed = isinstance(key, jax.Array) and jnp.issubdtype(kind, jax.dtypes.prng_key)
    if not (key.ndim == 0 if typed else kind == jnp.uint32 and key.ndim == 1):
        given = f"{kind}{list(key.shape)}" if typed else key
        raise UserError(f"key = {given}: pass jax.random.key({key if isinstance(key, int | np.integer) else 'seed'})")


def init_variables(module: Classifier, key: jax.Array, in_chans: int = 3) -> Variables:
    """Initial float32 variables, as numpy arrays; see :mod:`jaxvision.models.initializers`."""
    boxed = shapes(module, in_chans)
    stats = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (initializers.ones if path[-1].key == "running_var" else initializers.zeros)(
            None, leaf.shape
        ),
        boxed.get("batch_stats", {}),
    )
    return {"params": initializers.draw(boxed["params"], key), "batch_stats": stats}


def classifier_names(module: Classifier, in_chans: int) -> set[str]:
    """Names of the classifier's layers: what logits need and embeddings do not."""
    return set(shapes(module, in_chans)["params"]) - set(shapes(module, in_chans, "embed")["params"])


def with_new_classifier(module: Classifier, params: Variables, in_chans: int) -> Variables:
    """The parameters with a just initialised classifier scaled as one that takes the place of another."""
    head = classifier_names(module, in_chans)
    scaled = functools.partial(jax.tree.map, lambda leaf: leaf * jnp.float32(module.new_classifier_scale))
    return {name: scaled(leaf) if name in head else leaf for name, leaf in params.items()}


def flat_shapes(module: Classifier, in_chans: int) -> dict[str, tuple[int, ...]]:
    """Parameter names joined with dots, and their shapes."""
    tree = initializers.unboxed(shapes(module, in_chans)["params"])
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {".".join(entry.key for entry in path): leaf.shape for path, leaf in leaves}
