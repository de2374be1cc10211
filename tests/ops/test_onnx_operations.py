"""The implementations for ONNX compute what those of every backend do; tests/inference/test_onnx.py converts them."""

import family_cases
import jax
import numpy as np
import pytest
from reference import relative_error

from jaxvision.ops import pooling
from jaxvision.ops.backend import as_onnx_converts, as_xla_computes


@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
@pytest.mark.parametrize("name", ["avg_pool_2x2", "avg_pool_3x3", "max_pool_3x3"])
def test_pooling(name, size):
    x = np.random.default_rng(0).standard_normal((2, *size, 3), np.float32) - 2  # zeros would be the largest
    results = []
    for way in (as_xla_computes, as_onnx_converts):
        with way():
            results.append(jax.jit(lambda x: getattr(pooling, name)(x))(x))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["convnext_atto", pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.zoo)])
def test_networks(name):
    module, variables, images = family_cases.network(name)
    results = []
    for way in (as_xla_computes, as_onnx_converts):
        with way():
            results.append(jax.jit(lambda images: module.apply(variables, images, train=False))(images[:2]))
    assert relative_error(*results) < 1e-5
