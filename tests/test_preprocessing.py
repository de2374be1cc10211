"""Preprocessing is timm's, pixel for pixel; the class names are ImageNet's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from reference import timm

import jaxvision
from jaxvision.errors import UserError
from jaxvision.preprocessing import imagenet_classes, preprocessing


def natural_images():
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


@pytest.mark.parametrize(
    "name",
    ["resnet50.a1_in1k", "resnetrs50", "efficientnet_b5.sw_in12k_ft_in1k", "tf_efficientnetv2_b0",
     "vit_small_patch16_224", "resnext101_32x8d.tv_in1k"],
)  # fmt: skip
@pytest.mark.parametrize("test_size", [False, True])
def test_preprocessing_is_timms_pixel_for_pixel(name, test_size, tmp_path):
    spec = jaxvision.model_spec(name)
    if test_size and spec.test_input_size is None and spec.test_crop_pct is None:
        with pytest.raises(UserError, match="no other test setting"):
            preprocessing(spec, test_size=True)
        return
    config = timm.models.get_pretrained_cfg(f"{spec.name}.{spec.tag}").to_dict()
    settings = timm.data.resolve_data_config({}, pretrained_cfg=config, use_test_size=test_size)
    transform = timm.data.create_transform(**settings, is_training=False)
    ours = preprocessing(spec, test_size=test_size)
    for i, image in enumerate(natural_images()):
        for j, cut in enumerate((image, image[:, :300], image[:211, :400])):
            file = tmp_path / f"{i}{j}.png"
            Image.fromarray(cut).save(file)
            expected = transform(Image.open(file).convert("RGB")).numpy().transpose(1, 2, 0)
            mine = np.asarray(ours.normalise(ours.load(file)[None]))[0]
            np.testing.assert_allclose(mine, expected, atol=2e-6)


def test_pictures_of_every_kind_are_timms_too(tmp_path):
    model = jaxvision.create_model("resnet10t", key=jax.random.key(0))
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(
            {}, pretrained_cfg=timm.models.get_pretrained_cfg("resnet10t.c3_in1k").to_dict()
        )
    )
    photo = Image.fromarray(natural_images()[0])
    photo.save(tmp_path / "photo.png")
    palette, gray = photo.convert("P"), photo.convert("L")
    pictures = [str(tmp_path / "photo.png"), tmp_path / "photo.png", (tmp_path / "photo.png").read_bytes(), photo,
                np.asarray(photo), palette, gray]  # fmt: skip
    expected = [transform(image.convert("RGB")).numpy().transpose(1, 2, 0) for image in [photo] * 5 + [palette, gray]]
    preprocess = jaxvision.preprocess(model)
    batch = preprocess(pictures)
    np.testing.assert_allclose(batch, np.stack(expected), atol=2e-6)
    np.testing.assert_array_equal(preprocess(photo), batch[:1])
    np.testing.assert_array_equal(preprocess(np.stack([np.asarray(photo)] * 2)), batch[:2])
    for pixels in (jnp.asarray(photo), torch.from_numpy(np.array(photo))):
        np.testing.assert_array_equal(preprocess(pixels), batch[:1])
        np.testing.assert_array_equal(preprocess([pixels, pixels]), batch[:2])
        np.testing.assert_array_equal(preprocess(pixels[None]), batch[:1])
    np.testing.assert_array_equal(preprocess(p for p in pictures), batch)
    assert model(batch).shape == (7, 1000)


def test_pictures_that_cannot_be_read_are_named_all_at_once(tmp_path):
    preprocess = jaxvision.preprocess(jaxvision.create_model("resnet10t", key=jax.random.key(0)))
    (tmp_path / "text.jpg").write_text("no image")
    wrong = [tmp_path / "text.jpg", "missing.png", b"", np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8)]
    expected = (
        r"5 of 6 pictures cannot be read: .*text.jpg: .*missing.png: .*picture 2: .*"
        r"picture 3: expected RGB pixels, uint8 .*, got float32 \(8, 8, 3\)"
    )
    with pytest.raises(UserError, match=expected):
        preprocess([*wrong, np.zeros((8, 8, 3), np.uint8)])
    with (tmp_path / "text.jpg").open("rb") as file:
        for wrong in (None, 5, file):
            with pytest.raises(UserError, match="expected a path, bytes, a Pillow image, pixels, or several of these"):
                preprocess(wrong)


def test_the_size_is_that_of_the_model():
    key = jax.random.key(0)
    vit = jaxvision.create_model("vit_tiny_patch16_224", image_size=96, key=key)
    assert jaxvision.preprocess(vit).size == 96 and jaxvision.preprocess(vit).mean == (0.5, 0.5, 0.5)
    assert jaxvision.preprocess(jaxvision.create_model("resnet10t", key=key)).size == 176
    with pytest.raises(UserError, match="got one of 64x96 with 3 channels"):
        jaxvision.preprocess(jaxvision.create_model("vit_tiny_patch16_224", image_size=(64, 96), key=key))


def test_what_is_no_model_and_what_was_not_preprocessed():
    with pytest.raises(UserError, match=r"takes a Model, such as .*create_model\('resnet10t', .* and not a str"):
        jaxvision.preprocess("resnet10t")
    model = jaxvision.create_model("resnet10t", key=jax.random.key(0))
    with pytest.raises(UserError, match="and not a Compiled"):
        jaxvision.preprocess(jaxvision.compile(model))
    pixels = np.zeros((2, 40, 50, 3), np.uint8)
    with pytest.raises(UserError, match=r"got uint8: write model\(jaxvision.preprocess\(model\)\(images\)\)"):
        model(pixels)
    assert model(jaxvision.preprocess(model)(pixels)).shape == (2, 1000)  # as the message says


def test_imagenet_class_names_are_complete_and_in_order():
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    classes = imagenet_classes()
    assert len(classes) == 1000 and len({name for _, name in classes}) == 1000
    assert [wnid for wnid, _ in classes] == sorted(wnid for wnid, _ in classes)
    same = sum(a.lower() == b.lower() for (_, a), b in zip(classes, _IMAGENET_CATEGORIES, strict=True))
    assert same > 900  # the rest are other words for the same thing
