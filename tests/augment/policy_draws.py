"""What a policy of Pillow's operations chooses, for tests that compare it with timm's and torchvision's samplers."""

import collections
from typing import NamedTuple
from unittest import mock

import jax
import numpy as np
from scipy import stats

from jaxvision.augment import pillow_ops

DRAWS = 100_000
MEAN = (0.485, 0.456, 0.406)


class Layer(NamedTuple):
    """Names (DRAWS,) and arguments (DRAWS,) of the operations of one layer, and its geometry."""

    names: np.ndarray
    values: np.ndarray
    fill: tuple
    interpolation: str | np.ndarray  # or of each image, its index


def drawn(policy, height=200, width=160):
    """The layers of a policy for DRAWS images of this size, whose pixels are not touched."""
    layers = []

    def record(images, kind, value, *, fill, interpolation):
        layers.append(Layer(np.array(pillow_ops.KINDS)[np.asarray(kind)], np.asarray(value), fill, interpolation))
        return images

    uniforms = jax.random.uniform(jax.random.key(0), (DRAWS, policy.uniforms))
    with mock.patch.object(pillow_ops, "apply", record):
        policy.apply(np.broadcast_to(np.uint8(0), (DRAWS, height, width, 3)), uniforms)
    return layers


def pairs(policy, without_argument):
    """Of each image, the operations of a policy with two layers, as ((name, argument), ...) without the identity."""
    both = [zip(layer.names, layer.values, strict=True) for layer in drawn(policy)]
    return [
        tuple(
            (name, 0.0 if name in without_argument else round(float(value), 2))
            for name, value in pair
            if name != "Identity"
        )
        for pair in zip(*both, strict=True)
    ]


def same_distribution(ours, theirs):
    """The chi-square p-value of two samples, over what is common; asserts that neither has what the other lacks."""
    mine, other = collections.Counter(ours), collections.Counter(theirs)
    common = [key for key, count in other.items() if count > 20]
    assert set(common) <= set(mine), set(common) - set(mine)
    assert {key for key, count in mine.items() if count > 40} <= set(other)
    return stats.chi2_contingency([[mine[key] for key in common], [other[key] for key in common]]).pvalue
