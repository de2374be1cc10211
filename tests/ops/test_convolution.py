"""Every implementation of a convolution equals XLA's own, in value and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolution_cases import SHAPES, plain
from reference import relative_error

from jaxvision.ops import convolution
from jaxvision.ops.backend import lower_for


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients(shape, backend):
    height, width, inputs, outputs, kernel, stride, padding, groups = SHAPES[shape]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, height, width, inputs), np.float32)
    # Outputs of size one: the loss's cosine would magnify the rounding of large ones.
    weight = rng.standard_normal((outputs, kernel, kernel, inputs // groups), np.float32)
    weight /= np.float32(np.sqrt(weight[0].size))

    def ours(x, weight):
        with lower_for(backend):
            y = convolution.conv2d(x, weight, stride=stride, padding=padding, groups=groups)
        return jnp.sum(jnp.sin(y)), y

    def reference(x, weight):
        y = plain(x, weight, stride, padding, groups)
        return jnp.sum(jnp.sin(y)), y

    assert ("name=winograd" in str(jax.make_jaxpr(ours)(x, weight))) == ("Winograd" in shape and backend == "cpu")
    (_, y), grads = jax.value_and_grad(ours, (0, 1), has_aux=True)(x, weight)
    (_, expected), expected_grads = jax.value_and_grad(reference, (0, 1), has_aux=True)(x, weight)
    assert relative_error(y, expected) < 1e-5
    assert relative_error(jax.jit(ours)(x, weight)[1], expected) < 1e-5
    for gradient, wanted in zip(grads, expected_grads, strict=True):
        assert relative_error(gradient, wanted) < 1e-5


def test_bfloat16_is_summed_in_float32():
    """49 taps summed in bfloat16 would be off by percents."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(0.5, 1.0, (1, 9, 9, 4)), jnp.bfloat16)
    weight = jnp.asarray(rng.uniform(0.5, 1.0, (4, 7, 7, 1)), jnp.bfloat16)
    wide = plain(x.astype(jnp.float32), weight.astype(jnp.float32), 1, 3, 4)
    y = convolution.conv2d(x, weight, padding=3, groups=4)
    assert y.dtype == jnp.bfloat16
    assert relative_error(y.astype(jnp.float32), wide) < 2**-8


def test_the_implementation_follows_the_backend():
    x, weight = np.zeros((1, 20, 20, 8), np.float32), np.zeros((8, 3, 3, 1), np.float32)

    def text(backend):
        with lower_for(backend):
            return str(jax.make_jaxpr(lambda x, w: convolution.conv2d(x, w, padding=1, groups=8))(x, weight))

    assert "conv_general_dilated" not in text("cpu")
    assert "conv_general_dilated" in text("gpu") and "feature_group_count=8" in text("gpu")
