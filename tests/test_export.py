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


def test_a_model_is_a_function_for_jit_and_export():
    """Its weights are constants of the program then."""
    model = jaxvision.create_model("resnet10t", num_classes=5, key=jax.random.key(0))
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
    expected = model(images)
    np.testing.assert_allclose(jax.jit(model)(images), expected, rtol=1e-4, atol=1e-5)
    other = model.replace(params=jax.tree.map(lambda leaf: leaf * 0, model.params))
    assert not jax.jit(other)(images).any()  # another model is another program
    for function in (model, jaxvision.compile(model)):
        exported = export.export(jax.jit(function))(jax.ShapeDtypeStruct(images.shape, jnp.float32))
        back = export.deserialize(exported.serialize())
        np.testing.assert_allclose(back.call(images), expected, rtol=1e-3, atol=1e-4)
    assert model == model and model != model.replace() and len({model, model.replace()}) == 2
