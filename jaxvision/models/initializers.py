"""Initial values of parameters, drawn on the host with numpy.

An initializer is a function ``(rng, shape) -> float32 array``. Convolution weights are
stored OHWI and linear weights (out, in), so axis 0 is always "out".

Drawing on the host takes 1.4 s for a ResNet-50, where jitted initializers take 18 to 55 s to
compile, and gives the same weights on every device and JAX version and for every order of the
layers, because each parameter has a generator seeded with its name.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import numpy as np

Initializer = Callable[[np.random.Generator, Sequence[int]], np.ndarray]


@flax.struct.dataclass
class Declared(nn.meta.AxisMetadata):
    """A box around a parameter that carries its initializer through ``jax.eval_shape``."""

    value: Any
    initializer: Initializer = flax.struct.field(pytree_node=False)

    def unbox(self) -> Any:
        return self.value

    def replace_boxed(self, val: Any) -> Declared:
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict) -> Declared:
        return self

    def remove_axis(self, index: int, params: dict) -> Declared:
        return self


def declare(initializer: Initializer) -> Callable[..., Declared]:
    """A flax initializer that draws nothing and records ``initializer``; :func:`draw` draws."""
    return lambda key, shape: Declared(jax.numpy.zeros(shape, jax.numpy.float32), initializer)


def draw(tree: Any, key: jax.Array) -> Any:
    """Replaces every :class:`Declared` leaf by an array drawn from its initializer.

    Args:
      tree: nested dicts of ``Declared`` leaves holding ``ShapeDtypeStruct``s.
      key: a typed or legacy PRNG key; its words and the CRC-32 of the leaf's dotted
        path seed the generator.

    Returns:
      The same nesting with float32 numpy arrays.
    """
    is_typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = np.asarray(jax.random.key_data(key) if is_typed else key)
    seed = [int(word) for word in words.ravel()]

    def leaf(path: tuple, box: Declared) -> np.ndarray:
        name = ".".join(entry.key for entry in path)
        rng = np.random.default_rng([*seed, zlib.crc32(name.encode())])
        return box.initializer(rng, box.value.shape)

    return jax.tree_util.tree_map_with_path(leaf, tree, is_leaf=lambda x: isinstance(x, Declared))


def zeros(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """All zeros."""
    return np.zeros(shape, np.float32)


def ones(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """All ones."""
    return np.ones(shape, np.float32)


def normal(std: float) -> Initializer:
    """N(0, std^2)."""
    return functools.partial(_normal, std)


def _normal(std: float, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return rng.standard_normal(shape, np.float32) * np.float32(std)


def constant(value: float) -> Initializer:
    """The same value everywhere."""
    return lambda rng, shape: np.full(shape, value, np.float32)


def truncated_normal(std: float) -> Initializer:
    """N(0, std^2) clipped to [-2, 2]: timm's ``trunc_normal_``, whose bounds are absolute and clip no small ``std``."""
    return functools.partial(_truncated_normal, std)


def _truncated_normal(std: float, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return np.clip(_normal(std, rng, shape), -2.0, 2.0)


def kaiming_normal_fan_out(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """N(0, 2 / fan_out), fan_out = out * kernel area (He et al. 2015; torch's ``fan_out``, relu)."""
    return _normal(math.sqrt(2.0 / (math.prod(shape) / shape[-1])), rng, shape)


def truncated_fan_in(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Normal truncated at two standard deviations, with variance 1 / fan_in (TensorFlow's VarianceScaling default)."""
    # 0.8796... is the standard deviation of a unit normal truncated at +-2.
    std = math.sqrt(1.0 / math.prod(shape[1:])) / 0.87962566103423978
    values = rng.standard_normal(shape, np.float32)
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(int(outside.sum()), np.float32)
    return values * np.float32(std)


def kaiming_normal_fan_out_grouped(groups: int) -> Initializer:
    """N(0, 2 / fan_out) with fan_out = out * kernel area / groups (tensorflow/tpu's EfficientNet)."""
    return lambda rng, shape: kaiming_normal_fan_out(rng, shape) * np.float32(math.sqrt(groups))


def uniform_fan_out(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """U(-1/sqrt(out), 1/sqrt(out)) (tensorflow/tpu's EfficientNet classifier)."""
    return _uniform(1.0 / math.sqrt(shape[0]), rng, shape)


def uniform_fan_in(fan_in: int) -> Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): torch's default for Linear weights and all biases."""
    return functools.partial(_uniform, 1.0 / math.sqrt(fan_in))


def xavier_uniform(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """U(-a, a) with a^2 = 6 / (fan_in + fan_out) (Glorot & Bengio 2010).

    A weight (3 C, C) for query, key and value counts as three of (C, C), as flax initializes them.
    """
    out = shape[1] if shape[0] == 3 * shape[1] else shape[0]
    return _uniform(math.sqrt(6.0 / (shape[1] + out)), rng, shape)


def _uniform(bound: float, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def unboxed(tree: Any) -> Any:
    """The tree with each :class:`Declared` leaf replaced by its content."""
    return jax.tree.map(lambda box: box.value, tree, is_leaf=lambda x: isinstance(x, Declared))
