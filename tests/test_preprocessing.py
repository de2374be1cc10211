"""Preprocessing is timm's, pixel for pixel; the class names are ImageNet's."""

import numpy as np
import pytest
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


def test_imagenet_class_names_are_complete_and_in_order():
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    classes = imagenet_classes()
    assert len(classes) == 1000 and len({name for _, name in classes}) == 1000
    assert [wnid for wnid, _ in classes] == sorted(wnid for wnid, _ in classes)
    same = sum(a.lower() == b.lower() for (_, a), b in zip(classes, _IMAGENET_CATEGORIES, strict=True))
    assert same > 900  # the rest are other words for the same thing
