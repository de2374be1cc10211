"""GELU and ReLU6 against torch's, ends included; what all activations have in common."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxvision.ops.activations import gelu, relu6
from jaxvision.ops.backend import lower_for

POINTS = np.concatenate([np.linspace(-9, 9, 41), [0.0, 6.0, np.nextafter(np.float32(6), 0)]]).astype(np.float32)


def test_relu6_and_its_gradient_are_torchs():
    x = torch.from_numpy(POINTS).requires_grad_(True)
    torch.nn.functional.relu6(x).sum().backward()
    np.testing.assert_array_equal(relu6(jnp.asarray(POINTS)), torch.nn.functional.relu6(x).detach().numpy())
    gradient = jax.grad(lambda x: relu6(x).sum())(jnp.asarray(POINTS))
    np.testing.assert_array_equal(gradient, x.grad.numpy())


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_gelu_and_its_gradient_are_torchs(backend):
    x = torch.from_numpy(POINTS.astype(np.float64)).requires_grad_(True)
    torch.nn.functional.gelu(x).sum().backward()
    with lower_for(backend):
        value, pull = jax.vjp(gelu, jnp.asarray(POINTS))
    np.testing.assert_allclose(value, torch.nn.functional.gelu(x).detach().numpy(), atol=1e-6, rtol=2e-6)
    np.testing.assert_allclose(pull(jnp.ones(len(POINTS)))[0], x.grad.numpy(), atol=1e-6, rtol=2e-6)


@pytest.mark.parametrize("activation", [gelu, relu6])
def test_the_dtype_stays_and_a_nan_is_not_hidden(activation):
    x = jnp.asarray([1.5, jnp.nan], jnp.bfloat16)
    assert activation(x).dtype == jnp.bfloat16
    assert np.isnan(np.asarray(activation(x), np.float32)[1])
