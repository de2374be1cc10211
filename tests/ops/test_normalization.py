"""Each implementation of layer normalisation against PyTorch's in float64, with its gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.ops.backend import lower_for
from jaxvision.ops.normalization import layer_norm
from tools.parity.reference import torch


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("shape", [(6, 32), (3, 5, 32), (2, 3, 4, 32)])
def test_values_and_gradients_equal_torch(backend, shape):
    rng = np.random.default_rng(0)
    x = 5 + 3 * rng.standard_normal(shape) * np.where(np.arange(32) == 7, 40, 1)  # one channel far from the others
    scale, bias, g = rng.standard_normal(32), rng.standard_normal(32), rng.standard_normal(shape)
    leaves = [torch.from_numpy(part).requires_grad_() for part in (x, scale, bias)]
    out = torch.nn.functional.layer_norm(leaves[0], (32,), leaves[1], leaves[2], 1e-6)
    out.backward(torch.from_numpy(g))
    expected = [out.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]

    def run(x, scale, bias):
        return layer_norm(x, scale, bias, 1e-6, jnp.float32)

    with lower_for(backend):
        y, pull = jax.vjp(run, *(jnp.asarray(part, jnp.float32) for part in (x, scale, bias)))
        got = [y, *pull(jnp.asarray(g, jnp.float32))]
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_bfloat16_is_normalised_in_float32(backend):
    x = jnp.asarray(100 + np.random.default_rng(0).standard_normal((4, 64)), jnp.bfloat16)
    ones, zeros = jnp.ones(64), jnp.zeros(64)
    with lower_for(backend):
        y = layer_norm(x, ones, zeros, 1e-6, jnp.bfloat16)
        gradients = jax.grad(lambda *a: layer_norm(*a, 1e-6, jnp.bfloat16).astype(jnp.float32).sum(), (0, 1, 2))
        kinds = [leaf.dtype for leaf in gradients(x, ones, zeros)]
    assert y.dtype == jnp.bfloat16 and kinds == [jnp.bfloat16, jnp.float32, jnp.float32]
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, atol=0.02)
