"""Models as ONNX files, run by ONNX Runtime."""

import types

import family_cases
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from reference import relative_error

import jaxvision
from jaxvision.errors import UserError
from jaxvision.inference.export import ImageInput
from jaxvision.inference.onnx import onnx_runtime, to_onnx

QUICK = ("efficientnet_b0", "convnext_atto")
FAMILIES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.zoo) for name in family_cases.FAMILIES]


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_is_converted_and_takes_any_number_of_images(name):
    module, variables, images = family_cases.network(name)
    compute = jax.jit(lambda variables, images: module.apply(variables, images, train=False))
    expected = compute(variables, images)
    model = types.SimpleNamespace(module=module, variables=variables, in_chans=3)
    content = to_onnx(model, ImageInput(size=images.shape[1:3]))
    program = onnx_runtime(content)
    for count in (1, 3, 8):
        assert relative_error(program(images[:count]), expected[:count]) < 1e-4
    # The converter replaces functions of JAX and flax while it works.
    again = jax.jit(lambda images: module.apply(variables, images, train=False))(images)
    assert relative_error(again, expected) < 1e-6
    kinds = [node.op_type for node in onnx.load_from_string(content).graph.node]
    assert "Einsum" not in kinds or not name.startswith(("resn", "seres", "efficient", "tf_", "convnext"))


def test_what_a_file_takes_is_what_was_asked_for():
    module, variables, _ = family_cases.network("convnext_atto")
    model = types.SimpleNamespace(module=module, variables=variables, in_chans=3)
    settings = jaxvision.preprocessing.preprocessing(jaxvision.model_spec("convnext_atto"), size=64)
    taken = ImageInput(size=(64, 64), batch=2, normalise=settings.normalise, channels_first=True)
    content = to_onnx(model, taken)
    (images,) = onnx.load_from_string(content).graph.input
    assert [axis.dim_value for axis in images.type.tensor_type.shape.dim] == [2, 3, 64, 64]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    pixels = taken.random(2)
    expected = module.apply(variables, settings.normalise(pixels.transpose(0, 2, 3, 1)), train=False)
    assert relative_error(onnx_runtime(content)(pixels), expected) < 1e-4


class Callback(nn.Module):
    """A network with an operation that no converter knows."""

    dtype = jnp.float32

    @nn.compact
    def __call__(self, x, train):
        return jax.pure_callback(np.cumsum, jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.float32), x)


def test_an_operation_that_cannot_be_converted_is_named():
    model = types.SimpleNamespace(module=Callback(), variables={}, in_chans=3)
    with pytest.raises(UserError, match=r"cannot convert the operation pure_callback of float32\[2,4,4,3\].*StableHLO"):
        to_onnx(model, ImageInput(size=(4, 4), batch=2))


def test_bfloat16_is_refused():
    model = jaxvision.create_model("resnet10t", dtype=jnp.bfloat16, key=jax.random.key(0))
    with pytest.raises(UserError, match="float32"):
        to_onnx(model, ImageInput(size=(64, 64)))


def test_jax_is_as_before_a_conversion():
    modules = (jax, jnp, jax.lax, jax.nn, jax.random)
    before = [dict(vars(module)) for module in modules]
    model = jaxvision.create_model("resnet10t", key=jax.random.key(0), num_classes=3)
    for _ in range(2):
        to_onnx(jaxvision.fuse(model), ImageInput(size=(32, 32)))
    for module, functions in zip(modules, before, strict=True):
        changed = [name for name, function in functions.items() if getattr(module, name) is not function]
        assert not changed, module
    np.testing.assert_array_equal(jnp.cumsum(jnp.arange(4.0), 0), [0, 1, 3, 6])
