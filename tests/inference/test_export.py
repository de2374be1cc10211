"""A model goes through jax.export, also without a fixed number of images, and as a file for other programs."""

import re
import types

import family_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from reference import relative_error

import jaxvision
from jaxvision.errors import UserError
from jaxvision.inference import export_folder
from jaxvision.inference.export import ImageInput, distance, to_stablehlo

QUICK = ("efficientnet_b0", "vit_tiny_patch16_224")
FAMILIES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.zoo) for name in family_cases.FAMILIES]


def small(name):
    """A small network of a family with weights like trained ones, images of its size, and their logits."""
    module, variables, images = family_cases.network(name)
    model = types.SimpleNamespace(module=module, variables=variables, in_chans=3)
    return model, images, jax.jit(lambda images: module.apply(variables, images, train=False))(images)


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


@pytest.mark.parametrize("name", FAMILIES)
def test_the_program_of_each_family_is_portable_and_takes_any_number_of_images(name):
    model, images, expected = small(name)
    program = to_stablehlo(model, ImageInput(size=images.shape[1:3]))
    assert program.platforms == ("cpu", "cuda", "tpu")
    text = to_stablehlo(model, ImageInput(size=images.shape[1:3]), ["tpu"]).mlir_module()
    assert set(re.findall(r"custom_call @(\w+)", text)) <= {"shape_assertion"}
    kernels = [leaf for leaf in jax.tree.leaves(model.variables["params"]) if leaf.ndim == 4]
    patches = not name.startswith(
        ("resn", "seres", "efficient", "tf_")
    )  # whose convolutions without overlap are matmuls
    assert patches or text.count("stablehlo.convolution") == len(kernels)
    back = export.deserialize(program.serialize())
    for count in (1, 3, 8):
        assert relative_error(back.call(images[:count]), expected[:count]) < 1e-4


def test_what_a_program_takes_is_what_was_asked_for():
    name = "simple_vit_tiny_patch16_224"
    model = small(name)[0]
    pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), np.uint8)
    settings = jaxvision.preprocessing.preprocessing(jaxvision.model_spec(name), size=64)
    expected = model.module.apply(model.variables, settings.normalise(pixels), train=False)
    taken = ImageInput(size=(64, 64), batch=2, normalise=settings.normalise, channels_first=True)
    assert (taken.shape, taken.dtype, taken.layout) == ((2, 3, 64, 64), np.uint8, "NCHW")
    program = to_stablehlo(model, taken, ["cpu"])
    assert relative_error(program.call(pixels.transpose(0, 3, 1, 2)), expected) < 1e-4
    assert distance(program.call, model, taken) < 1e-4
    assert distance(lambda images: 1.01 * program.call(images), model, taken) == pytest.approx(0.01, rel=0.01)
    with pytest.raises(ValueError, match="shape"):
        program.call(pixels.transpose(0, 3, 1, 2)[:1])
    with pytest.raises(UserError, match="expected some of cpu, cuda, rocm, tpu"):
        to_stablehlo(model, taken, ["cpu", "gpu"])


def test_a_folder_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    old = {export_folder.ONNX: b"old", export_folder.README: b"old", export_folder.DESCRIPTION: b"old"}
    new = {export_folder.STABLEHLO: b"new", export_folder.README: b"new", export_folder.DESCRIPTION: b"new"}
    folder = tmp_path / "a" / "b"

    def found():
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    write_file = export_folder.replace_file

    def fails_at_the_readme(path, write):
        if path.name == export_folder.README:
            raise OSError("disk full")
        write_file(path, write)

    for before in ({}, old):
        if before:
            export_folder.write(folder, before, overwrite=False)
        with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
            patch.setattr(export_folder, "replace_file", fails_at_the_readme)
            export_folder.write(folder, new, overwrite=True)
        assert not folder.exists() if not before else found() == old
    with pytest.raises(UserError, match="--force"):
        export_folder.write(folder, new, overwrite=False)
    export_folder.write(folder, new, overwrite=True)
    assert found() == new
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"other files \(notes.txt\)"):
        export_folder.write(folder, old, overwrite=True)
    assert set(found()) == {*new, "notes.txt"}
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "README.md").write_text("mine")  # of a folder that is no export
    with pytest.raises(UserError, match=r"other files \(README.md\)"):
        export_folder.write(tmp_path / "own", new, overwrite=True)
