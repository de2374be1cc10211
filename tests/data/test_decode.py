"""Decoding, crop distribution and resizing against Pillow, timm, torchvision and TensorFlow."""

import io
import math

import numpy as np
import pytest
from PIL import Image
from reference import timm

from jaxvision.data import decode, plan


def photo(height, width, seed=0):
    """Smooth color noise: JPEG-like content."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(image, form, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form,options", [("JPEG", {"quality": 90}), ("JPEG", {"subsampling": 0}), ("PNG", {})])
def test_decoding_equals_pillow(form, options):
    data = encoded(photo(120, 90), form, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode.decode(data), expected)
    scratch = decode.Scratch()
    decode.decode(encoded(photo(200, 200), "JPEG"), scratch)  # a larger one before it
    np.testing.assert_array_equal(decode.decode(data, scratch), expected)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs(mode):
    buffer = io.BytesIO()
    Image.fromarray(photo(64, 48)).convert(mode).save(buffer, "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    np.testing.assert_array_equal(decode.decode(buffer.getvalue()), expected)


def test_damaged_images_are_errors():
    data = encoded(photo(120, 90), "JPEG")
    for bad in (data[: len(data) // 2], b"", b"\xff\xd8garbage", encoded(photo(64, 64), "PNG")[:200]):
        with pytest.raises(ValueError):
            decode.decode(bad)


@pytest.mark.parametrize("shape", [(240, 180), (180, 240), (97, 301), (64, 64), (224, 224)])
@pytest.mark.parametrize(
    "size,crop_pct,interpolation", [(64, 0.875, "bicubic"), (96, 0.91, "bilinear"), (64, 1.0, "bicubic")]
)
def test_evaluation_is_bit_identical_to_timm(shape, size, crop_pct, interpolation):
    image = photo(*shape, seed=size)
    transform = timm.data.create_transform(
        size, crop_pct=crop_pct, interpolation=interpolation, mean=(0.0,) * 3, std=(1.0,) * 3, use_prefetcher=True
    )
    expected = np.asarray(transform(Image.fromarray(image))).transpose(1, 2, 0)
    np.testing.assert_array_equal(decode.eval_image(image, size, crop_pct, interpolation), expected)


def boxes(draw, *covered, count=20_000, shape=(375, 500), area=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    rng = np.random.default_rng(0)
    drawn = [draw(rng.random(decode.UNIFORMS), *shape, area, ratio, *covered) for _ in range(count)]
    for top, left, h, w in (b for b in drawn if b):
        assert 0 <= top <= shape[0] - h and 0 <= left <= shape[1] - w
    return drawn


def test_torch_crop_law_matches_torchvision():
    """Area and aspect quantiles against timm's RandomResizedCropAndInterpolation, which is torchvision's draw."""
    import random

    from timm.data.transforms import RandomResizedCropAndInterpolation

    random.seed(0)
    blank = Image.new("RGB", (500, 375))
    theirs = [RandomResizedCropAndInterpolation.get_params(blank, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(20_000)]
    ours = boxes(decode.torch_crop)
    for quantity in (
        lambda b: b[2] * b[3] / (375 * 500),
        lambda b: math.log(b[3] / b[2]),
        lambda b: b[0],
        lambda b: b[1],
    ):
        a, b = (np.sort([quantity(x) for x in boxes_]) for boxes_ in (ours, theirs))
        grid = np.sort(np.concatenate([a, b]))
        distance = np.abs(np.searchsorted(a, grid, "right") - np.searchsorted(b, grid, "right")).max() / 20_000
        assert distance < 1.95 * math.sqrt(2 / 20_000)  # Kolmogorov-Smirnov, p = 0.001


def test_tf_crop_law_has_the_measured_moments():
    """As 150,000 and 40,000 draws of TensorFlow 2.21's stateless_sample_distorted_bounding_box."""
    areas = np.array([b[2] * b[3] for b in boxes(decode.tf_crop)]) / (375 * 500)
    assert abs(areas.mean() - 0.3887) < 0.005
    assert abs(np.median(areas) - 0.3549) < 0.007
    assert 0.1 <= areas.min() < 0.11
    # min_object_covered = 0, as big_vision and EfficientNetV2-S to L.
    drawn = boxes(decode.tf_crop, 0.0, area=(0.05, 1.0), ratio=(0.75, 1.33))
    areas = np.array([b[2] * b[3] for b in drawn]) / (375 * 500)
    assert abs(areas.mean() - 0.3425) < 0.005
    assert abs(np.median(areas) - 0.3004) < 0.007
    assert abs((areas < 0.1).mean() - 0.1414) < 0.01 and 0.05 <= areas.min() < 0.055


def test_where_tensorflow_finds_no_crop_the_evaluation_crop_is_used():
    image, u = photo(10, 400), np.random.default_rng(0).random(decode.UNIFORMS)
    for crop_mode, expected in (("center", image[:, 195:205]), ("crop_first", image[:, 195:205])):
        out = np.zeros((10, 10, 3), np.uint8)
        decode.train_transform(
            size=10, crop="tf", area=(0.5, 1.0), ratio=(3 / 4, 4 / 3), resize="linear",
            crop_pct=1.0, interpolation="bicubic", crop_mode=crop_mode)(image, u, out)  # fmt: skip
        np.testing.assert_array_equal(out, expected)


def test_random_filter_is_timms_choice_from_the_plans_numbers():
    """Pillow's bilinear or bicubic, half of the images each, and never another crop than without it."""
    image = photo(90, 120)

    def crop(u, resize):
        out = np.zeros((32, 32, 3), np.uint8)
        decode.train_transform(
            size=32, crop="torch", area=(0.3, 1.0), ratio=(3 / 4, 4 / 3), resize=resize,
            crop_pct=0.875, interpolation="bicubic")(image, u, out)  # fmt: skip
        return out

    chosen = []
    for u in plan.Plan(200, 200, seed=0, train=True).uniforms(3, decode.UNIFORMS):
        found = crop(u, "random")
        same = [name for name in ("bilinear", "bicubic") if np.array_equal(found, crop(u, name))]
        assert len(same) == 1
        chosen += same
    assert 70 < chosen.count("bilinear") < 130


def test_the_hosts_policy_sees_the_whole_image_and_its_own_numbers():
    image, seen = photo(50, 40), []
    transform = decode.train_transform(
        size=16, crop="torch", area=(0.3, 1.0), ratio=(3 / 4, 4 / 3), resize="bilinear", crop_pct=1.0,
        interpolation="bicubic", policy=lambda x, u: seen.append((x, u)) or 255 - x)  # fmt: skip
    plain = decode.train_transform(
        size=16, crop="torch", area=(0.3, 1.0), ratio=(3 / 4, 4 / 3), resize="bilinear", crop_pct=1.0,
        interpolation="bicubic")  # fmt: skip
    u, inverted, expected = np.random.default_rng(0).random(45), *np.zeros((2, 16, 16, 3), np.uint8)
    transform(image, u, inverted)
    plain(255 - image, u[:40], expected)
    np.testing.assert_array_equal(inverted, expected)
    assert seen[0][0] is image and list(seen[0][1]) == list(u[40:])


def test_extreme_images_still_crop():
    u = np.random.default_rng(0).random(decode.UNIFORMS)
    assert decode.torch_crop(u, 10, 1000, (0.08, 1.0), (3 / 4, 4 / 3))[2:] == (10, 13)
    assert decode.torch_crop(u, 1000, 10, (0.08, 1.0), (3 / 4, 4 / 3))[2:] == (13, 10)
    assert decode.tf_crop(u, 10, 1000, (0.5, 1.0), (3 / 4, 4 / 3)) is None
    assert decode.torch_crop(u, 1, 1, (0.08, 1.0), (1, 1)) == (0, 0, 1, 1)
