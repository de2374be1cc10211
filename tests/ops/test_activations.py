"""Activations against torch's, values and gradients, ends included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxvision.ops.activations import gelu, relu6

POINTS = np.concatenate([np.linspace(-9, 9, 41), [0.0, 6.0, np.nextafter(np.float32(6), 0)]]).astype(np.float32)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(gelu, torch.nn.GELU()), (relu6, torch.nn.ReLU6())], ids=["gelu", "relu6"]
)
def test_values_and_gradients_are_torchs(ours, theirs):
    x = torch.from_numpy(POINTS).requires_grad_(True)
    y = theirs(x)
    y.sum().backward()
    value, gradient = jax.value_and_grad(lambda x: ours(x).sum(), argnums=0)(jnp.asarray(POINTS))
    np.testing.assert_allclose(ours(jnp.asarray(POINTS)), y.detach().numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(value, y.sum().item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", [gelu, relu6])
def test_the_dtype_stays_and_a_nan_is_not_hidden(activation):
    x = jnp.asarray([1.5, jnp.nan], jnp.bfloat16)
    assert activation(x).dtype == jnp.bfloat16
    assert np.isnan(np.asarray(activation(x), np.float32)[1])
