"""Resizing against Pillow and TensorFlow, and decoding against TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_decode import encoded, photo

from jaxvision.data import decode, resizing


def noise(height, width):
    """Noise, and bands of white and of one color, whose levels truncation would change first."""
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    image[: height // 4] = 255
    image[height // 4 : height // 3] = 77
    return image


@pytest.mark.parametrize("shape,size", [((300, 260), (224, 224)), ((37, 91), (64, 64)), ((250, 333), (64, 100))])
def test_tensorflows_resizes_are_tensorflows_to_the_last_bit(shape, size):
    image = noise(*shape)
    theirs = {
        "tf_bicubic": tf.compat.v1.image.resize_bicubic(image[None], size)[0].numpy(),
        "tf_bilinear": tf.image.resize(image, size).numpy(),
    }
    for mode, expected in theirs.items():
        values = resizing.tensorflow_resize(image, *size, cubic=mode == "tf_bicubic")
        np.testing.assert_array_equal(values, expected)
        clipped = np.clip(expected, 0, 255)
        np.testing.assert_array_equal(resizing.resize(image, *size, mode, truncate=True), clipped.astype(np.uint8))
        assert np.abs(resizing.resize(image, *size, mode) - clipped).max() <= 0.5


@pytest.mark.parametrize("subsampling", [0, 2])
def test_fast_decoding_is_tensorflows_default(subsampling):
    data = encoded(photo(133, 90), "JPEG", quality=90, subsampling=subsampling)
    theirs = tf.io.decode_jpeg(data, channels=3).numpy()
    np.testing.assert_array_equal(decode.decode(data, dct_method="fast"), theirs)
    assert (decode.decode(data) != theirs).mean() > 0.1


@pytest.mark.parametrize("shape", [(301, 260), (240, 321), (160, 160)])
def test_tensorflows_evaluation_crop_is_cut_before_it_is_resized(shape):
    """_decode_and_center_crop of tensorflow/tpu's efficientnet/preprocessing.py."""
    image, size = photo(*shape), 96
    side = tf.cast((size / (size + 32)) * tf.cast(tf.minimum(*shape), tf.float32), tf.int32)
    corner = [(s - side + 1) // 2 for s in shape]
    cut = tf.image.crop_to_bounding_box(image, *corner, side, side)
    expected = tf.compat.v1.image.resize_bicubic(cut[None], [size, size])[0].numpy()
    found = decode.eval_image(image, size, size / (size + 32), "tf_bicubic", "crop_first")
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= 0.5


@pytest.mark.parametrize("mode", resizing.PIL_FILTERS)
def test_pillows_filters_are_pillows(mode):
    image = photo(250, 240)
    expected = Image.fromarray(image).resize((64, 80), resizing.PIL_FILTERS[mode])
    np.testing.assert_array_equal(resizing.resize(image, 80, 64, mode), np.asarray(expected))


def test_fast_resizes_are_close_to_pillows():
    image = photo(300, 260)
    bicubic = resizing.resize(image[20:270, 10:250], 64, 64, "bicubic").astype(int)
    for mode, bound in (("area", 3.0), ("linear", 12.0)):
        found = resizing.resize(image[20:270, 10:250], 64, 64, mode)
        assert np.abs(found.astype(int) - bicubic).mean() < bound
    # The filter stays closer to Pillow's antialiased bilinear than plain bilinear does, at every scale.
    for side in (70, 90, 110, 140, 200, 290):
        crop = image[: min(side, 290), : min(side, 250)]
        pillow = resizing.resize(crop, 64, 64, "bilinear").astype(int)
        errors = {m: np.abs(resizing.resize(crop, 64, 64, m) - pillow).mean() for m in ("filter", "linear")}
        assert errors["filter"] < min(errors["linear"], 3.0), (side, errors)


@pytest.mark.parametrize("mode", resizing.EVAL_RESIZES)
def test_an_image_of_the_right_size_is_unchanged_and_a_given_array_is_filled(mode):
    image = photo(64, 64)
    np.testing.assert_array_equal(resizing.resize(image, 64, 64, mode), image)
    out = np.zeros((40, 50, 3), np.uint8)
    assert resizing.resize(image, 40, 50, mode, out=out) is out
    np.testing.assert_array_equal(out, resizing.resize(image, 40, 50, mode))
    assert out.std() > 10
