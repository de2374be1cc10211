"""Every implementation of a pooling gives the same values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import relative_error

from jaxvision.ops import pooling
from jaxvision.ops.backend import lower_for
from jaxvision.ops.program import compiler_options
from tools.parity.reference import torch


@pytest.mark.parametrize("size", [(13, 12), (8, 8), (1, 2), (1, 1)])
def test_maxima_and_their_gradients_are_equal_also_among_equal_values(size):
    x = jnp.maximum(np.random.default_rng(0).standard_normal((2, *size, 5), np.float32), 0.0)  # half of it is zero
    rows, columns = (-(-side // 2) for side in size)
    g = np.float32(np.random.default_rng(1).integers(-9, 10, (2, rows, columns, 5)))  # sums are the same in any order

    def pooled(backend):
        with lower_for(backend):
            y, back = jax.vjp(pooling.max_pool_3x3, x)
            return y, back(g)[0]

    expected = pooled("tpu")  # XLA's own
    for backend in ("cpu", "gpu"):
        for ours, right in zip(pooled(backend), expected, strict=True):
            np.testing.assert_array_equal(ours, right)


def test_a_maximum_of_nan_is_nan():
    x = jnp.ones((1, 5, 5, 1)).at[0, 2, 2, 0].set(jnp.nan)
    for backend in ("cpu", "gpu", "tpu"):
        with lower_for(backend):
            assert np.isnan(jax.vjp(pooling.max_pool_3x3, x)[0][0, 1, 1, 0]), backend


@pytest.mark.parametrize("size", [(12, 14), (13, 11), (7, 8), (1, 2), (1, 1), (37, 37)])
@pytest.mark.parametrize("pool", [pooling.avg_pool_2x2, pooling.avg_pool_3x3, pooling.global_avg_pool])
def test_averages_of_both_implementations_are_equal(pool, size):
    x = np.random.default_rng(0).standard_normal((2, *size, 5), np.float32)

    def pooled(backend):
        with lower_for(backend):
            y, back = jax.vjp(pool, x)
            return y, back(jnp.sin(1 + y))[0]

    for ours, expected in zip(pooled("cpu"), pooled("gpu"), strict=True):
        assert relative_error(ours, expected) < 1e-6


@pytest.mark.parametrize("options", [{"attends": False}, {"attends": False, "train": True}, {"attends": True}])
def test_means_of_large_maps_are_as_exact_as_torchs(options):
    """Their gates pass on each error: adding one value after the other, the mean would be 1.7e-6 off."""
    x = np.maximum(np.random.default_rng(0).standard_normal((1, 112, 112, 64), np.float32), 0.0)
    exact = x.mean((1, 2), dtype=np.float64)
    theirs = torch.from_numpy(x).mean((1, 2)).numpy()
    with lower_for("cpu"):
        ours = jax.jit(lambda x: pooling.global_avg_pool(x), compiler_options=compiler_options(**options))(x)
    errors = [np.sqrt(np.mean(np.square(np.float64(side) - exact))) / np.mean(exact) for side in (ours, theirs)]
    assert 0 < errors[0] < 2.5 * errors[1] < 2e-7
