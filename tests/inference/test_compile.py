"""A compiled model gives the model's logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import relative_error, trained_like

import jaxvision
from jaxvision.errors import UserError


def test_a_compiled_model_gives_the_model_s_logits():
    reference = trained_like("resnet10t", num_classes=7)
    model = jaxvision.create_model("resnet10t", num_classes=7, weights=reference.state_dict())
    x = np.random.default_rng(0).standard_normal((2, 96, 96, 3), np.float32)
    classify = jaxvision.compile(model)
    assert relative_error(classify(x), model(x)) < 1e-4
    assert classify.lower(jax.ShapeDtypeStruct((5, 64, 64, 3), jnp.float32)).out_info.shape == (5, 7)
    with pytest.raises(UserError, match="NCHW"):
        classify(x.transpose(0, 3, 1, 2))
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):  # options reach the compiler
        jaxvision.compile(model, compiler_options={"xla_no_such_option": "1"})(x)


def test_a_few_images_have_a_program_that_holds_the_weights():
    """XLA packs constants while it compiles; with arguments, jax.jit of the call written by hand was the faster one."""
    reference = trained_like("resnet10t", num_classes=7)
    model = jaxvision.create_model("resnet10t", num_classes=7, weights=reference.state_dict())
    classify = jaxvision.compile(model)
    for count, arguments in ((4, 1), (16, 2)):  # the images, and before them the weights
        x = np.random.default_rng(count).standard_normal((count, 64, 64, 3), np.float32)
        assert len(classify.lower(x).in_avals[0]) == arguments, count
        assert relative_error(classify(x), model(x)) < 1e-4
