"""A compiled model gives the model's logits."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import serialize_executable
from jax.sharding import AxisType, NamedSharding, PartitionSpec
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


# Programs with oneDNN cannot be stored.
@pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache entry")
def test_sharded_images_stay_sharded_without_onednn_and_with_it_a_warning_comes_once():
    model, x = small(), np.random.default_rng(0).standard_normal((8, 32, 32, 3), np.float32)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    sharded, copied = (jax.device_put(x, NamedSharding(mesh, PartitionSpec(*axes))) for axes in (("data",), ()))
    with_onednn, without = (jaxvision.compile(model, use_onednn=use) for use in (True, False))
    # Filters of these tests make any warning an error.
    assert without(sharded).sharding.spec == PartitionSpec("data")
    with_onednn(copied)
    if not with_onednn.uses_onednn:
        pytest.skip("no oneDNN here")
    with pytest.warns(UserWarning, match=r"sharded over 4 devices, .* gathers them: .*use_onednn=False") as caught:
        logits = with_onednn(sharded)
    assert logits.sharding.is_fully_replicated
    assert [warning.filename for warning in caught if "gathers" in str(warning.message)] == [__file__]
    with_onednn(sharded)  # no second one
    assert relative_error(logits, model(x)) < 1e-4
