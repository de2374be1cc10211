"""Decoding, crop distribution and resizing against Pillow, timm, torchvision and TensorFlow."""

import io
import math

import numpy as np
import pytest
from PIL import Image
from reference import timm

from jaxvision.data import decode


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


def boxes(draw, count=20_000, shape=(375, 500), area=(0.08, 1.0)):
    rng = np.random.default_rng(0)
    drawn = [draw(rng.random(decode.UNIFORMS), *shape, area, (3 / 4, 4 / 3)) for _ in range(count)]
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
    """recipes.md section 0.3, measured on TensorFlow: 375x500 mean 0.391, median 0.357, floor 0.1."""
    areas = np.array([b[2] * b[3] for b in boxes(decode.tf_crop) if b]) / (375 * 500)
    assert abs(areas.mean() - 0.391) < 0.005
    assert abs(np.median(areas) - 0.357) < 0.007
    assert 0.1 <= areas.min() < 0.11


def test_extreme_images_still_crop():
    u = np.random.default_rng(0).random(decode.UNIFORMS)
    assert decode.torch_crop(u, 10, 1000, (0.08, 1.0), (3 / 4, 4 / 3))[2:] == (10, 13)
    assert decode.torch_crop(u, 1000, 10, (0.08, 1.0), (3 / 4, 4 / 3))[2:] == (13, 10)
    assert decode.tf_crop(u, 10, 1000, (0.5, 1.0), (3 / 4, 4 / 3)) is None
    assert decode.torch_crop(u, 1, 1, (0.08, 1.0), (1, 1)) == (0, 0, 1, 1)


def test_resizes_are_close_to_pillows():
    image = photo(300, 260)
    box = (20, 10, 250, 240)
    exact = decode.resize_crop(image, box, 64, "antialias").astype(int)
    expected = Image.fromarray(image).crop((10, 20, 250, 270)).resize((64, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(exact, np.asarray(expected))
    for mode, bound in (("area", 3.0), ("linear", 12.0)):
        assert np.abs(decode.resize_crop(image, box, 64, mode).astype(int) - exact).mean() < bound
    # The filter stays closer to Pillow's antialiased bilinear than plain bilinear does, at every scale.
    for side in (70, 90, 110, 140, 200, 290):
        box = (0, 0, min(side, 290), min(side, 250))
        pillow = Image.fromarray(image).crop((0, 0, box[3], box[2])).resize((64, 64), Image.Resampling.BILINEAR)
        errors = {
            mode: np.abs(decode.resize_crop(image, box, 64, mode).astype(int) - np.asarray(pillow)).mean()
            for mode in ("filter", "linear")
        }
        assert errors["filter"] < min(errors["linear"], 3.0), (side, errors)
    same = decode.resize_crop(image, (0, 0, 64, 64), 64, "area")
    np.testing.assert_array_equal(same, image[:64, :64])
