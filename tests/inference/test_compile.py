"""A compiled model gives the model's logits."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import serialize_executable
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


def small():
    return jaxvision.create_model("resnet10t", num_classes=3, key=jax.random.key(0))


def test_a_compiled_model_is_not_pickled_and_its_program_is_without_onednn():
    model, x = small(), np.ones((2, 32, 32, 3), np.float32)
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(UserError, match=r"pickle the model that was compiled, .*use_onednn=False\)\.lower"):
            duplicate(jaxvision.compile(model))
    classify = jaxvision.compile(model, use_onednn=False)
    stored = serialize_executable.serialize(classify.lower(x).compile())
    assert len(pickle.dumps(stored)) > 1000
    np.testing.assert_allclose(pickle.loads(pickle.dumps(model))(x), model(x), rtol=1e-5)  # as the message says
