"""A model goes through jax.export, also without a fixed number of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxvision


@pytest.mark.parametrize("name", ["resnet10t", pytest.param("resnest14d", marks=pytest.mark.zoo)])
def test_exported_with_a_symbolic_batch(name):
    model = jaxvision.create_model(name, num_classes=5, key=jax.random.key(0))
    shape = export.symbolic_shape("batch, 64, 64, 3")
    exported = export.export(jax.jit(lambda images: model(images)))(jax.ShapeDtypeStruct(shape, jnp.float32))
    images = np.random.default_rng(0).standard_normal((3, 64, 64, 3), np.float32)
    back = export.deserialize(exported.serialize())
    for count in (1, 3):
        np.testing.assert_allclose(back.call(images[:count]), model(images[:count]), rtol=1e-3, atol=1e-4)
