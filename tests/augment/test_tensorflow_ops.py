"""TensorFlow's operations against the formulas of tensorflow/tpu, one at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from jaxvision.augment import tensorflow_ops

BATCH = 6


def batch(seed=0, size=40):
    """Noise, a ramp, a constant, two levels, a dark and a smooth image."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (BATCH, size, size + 8, 3), np.uint8)
    images[1] = np.linspace(0, 255, size + 8).astype(np.uint8)[None, :, None]
    images[2] = 77
    images[3] = np.where(images[3] > 100, 200, 30)
    images[4] = images[4] // 8
    images[5] = images[5] // 2 + np.arange(size, dtype=np.uint8)[:, None, None]
    return images


# The reference formulas of tensorflow/tpu's autoaugment.py, stated per image in TensorFlow and numpy.
def tf_blend(a, b, factor):
    a, b = np.float32(a), np.float32(b)
    return np.clip(a + np.float32(factor) * (b - a), 0, 255).astype(np.uint8)


def tf_warp(image, transform):
    wrapped = np.concatenate([image, np.ones_like(image[..., :1])], -1)
    out = tf.raw_ops.ImageProjectiveTransformV3(
        images=wrapped[None], transforms=np.float32([transform]), output_shape=image.shape[:2],
        fill_value=0.0, interpolation="NEAREST", fill_mode="CONSTANT")[0].numpy()  # fmt: skip
    return np.where(out[..., 3:] == 0, 128, out[..., :3]).astype(np.uint8)


def tf_rotate(image, degrees):
    a, (h, w) = np.deg2rad(degrees), image.shape[:2]
    x0 = ((w - 1) - (np.cos(a) * (w - 1) - np.sin(a) * (h - 1))) / 2
    y0 = ((h - 1) - (np.sin(a) * (w - 1) + np.cos(a) * (h - 1))) / 2
    return tf_warp(image, [np.cos(a), -np.sin(a), x0, np.sin(a), np.cos(a), y0, 0, 0])


def tf_autocontrast(image):
    out = image.copy()
    for c in range(3):
        lo, hi = np.float32(image[..., c].min()), np.float32(image[..., c].max())
        if hi > lo:
            scale = np.float32(255) / (hi - lo)
            out[..., c] = np.clip(image[..., c] * scale - lo * scale, 0, 255).astype(np.uint8)
    return out


def tf_equalize(image):
    out = image.copy()
    for c in range(3):
        histogram = tf.histogram_fixed_width(tf.cast(image[..., c], tf.int32), [0, 255], 256).numpy()
        nonzero = histogram[histogram > 0]
        step = (nonzero.sum() - nonzero[-1]) // 255
        if step:
            lut = (np.cumsum(histogram) + step // 2) // step
            out[..., c] = np.clip(np.concatenate([[0], lut[:-1]]), 0, 255)[image[..., c]]
    return out


def tf_posterize(image, bits):
    shift = np.array(8 - bits).astype(np.uint8)  # wraps below 0, as TensorFlow's constants do
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift).numpy()


def tf_sharpness(image, factor):
    kernel = np.float32([[1, 1, 1], [1, 5, 1], [1, 1, 1]]).reshape(3, 3, 1, 1) / 13
    smooth = tf.nn.depthwise_conv2d(np.float32(image)[None], np.tile(kernel, (1, 1, 3, 1)), [1] * 4, "VALID")[0]
    degenerate = image.copy()
    degenerate[1:-1, 1:-1] = np.clip(smooth.numpy(), 0, 255).astype(np.uint8)
    return tf_blend(degenerate, image, factor)


def border(name, shape, m, sign):
    """Output pixels whose source coordinate, in float64, is within 1e-4 of halfway between two pixels."""
    h, w = shape
    y, x = np.mgrid[:h, :w].astype(np.float64)
    level = sign * m / 10
    if name == "Rotate":
        a = np.deg2rad(level * 30)
        cx, cy = (w - 1) / 2, (h - 1) / 2
        x, y = np.cos(a) * (x - cx) - np.sin(a) * (y - cy) + cx, np.sin(a) * (x - cx) + np.cos(a) * (y - cy) + cy
    elif name == "ShearX":
        x = x + level * 0.3 * y
    else:
        y = y + level * 0.3 * x
    return np.minimum(abs(x % 1 - 0.5), abs(y % 1 - 0.5)) < 1e-4


def reference(name, image, m, sign):
    level = m / 10
    factor = level * 1.8 + 0.1
    threshold = int(level * 256) % 256
    gray = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image)).numpy()
    return {
        "AutoContrast": lambda: tf_autocontrast(image),
        "Equalize": lambda: tf_equalize(image),
        "Invert": lambda: 255 - image,
        "Rotate": lambda: tf_rotate(image, sign * level * 30),
        "Posterize": lambda: tf_posterize(image, int(level * 4)),
        "Solarize": lambda: np.where(image < threshold, image, 255 - image),
        "Color": lambda: tf_blend(gray, image, factor),
        "Contrast": lambda: tf_blend(np.full_like(image, min(image[..., 0].size / 256, 255)), image, factor),
        "Brightness": lambda: tf_blend(np.zeros_like(image), image, factor),
        "Sharpness": lambda: tf_sharpness(image, factor),
        "ShearX": lambda: tf_warp(image, [1, sign * level * 0.3, 0, 0, 1, 0, 0, 0]),
        "ShearY": lambda: tf_warp(image, [1, 0, 0, sign * level * 0.3, 1, 0, 0, 0]),
        "TranslateX": lambda: tf_warp(image, [1, 0, sign * level * 10, 0, 1, 0, 0, 0]),
        "TranslateY": lambda: tf_warp(image, [1, 0, 0, 0, 1, sign * level * 10, 0, 0]),
        "SolarizeAdd": lambda: np.where(image < 128, np.clip(image.astype(int) + int(level * 110), 0, 255), image),
    }[name]()


def apply(images, index, sign, centre, m, cutout_const=40.0):
    """Names, signs and one magnitude to the arguments that tensorflow_ops.apply takes."""
    table = np.array([tensorflow_ops.argument(name, m, 10.0, cutout_const) for name in tensorflow_ops.OPS], np.float32)
    value = tensorflow_ops.signed_value(index, jnp.asarray(table)[index], (sign + 1) / 2)
    return tensorflow_ops.apply(images, index, value, centre)


APPLY = jax.jit(
    lambda images, index, sign, m: apply(images, index, sign, jnp.full((BATCH, 2), 0.5), m), static_argnums=3
)


# Posterize keeps 0, 1, 4, 6 and 11 bits; AutoAugment's v0 has it at magnitude 2.
@pytest.mark.parametrize("m", [2.0, 3.0, 10.0, 15.0, 28.0])
def test_every_operation_equals_the_tf_formula(m):
    images = batch()
    for i, name in enumerate(tensorflow_ops.OPS):
        if name == "Cutout":
            continue
        for sign in (1.0, -1.0):
            ours = APPLY(images, jnp.full(BATCH, i), jnp.full(BATCH, sign), m)
            theirs = np.stack([reference(name, image, m, sign) for image in images])
            difference = np.abs(np.asarray(ours).astype(int) - theirs.astype(int))
            if name in ("Rotate", "ShearX", "ShearY"):
                # Only where a coordinate is within rounding of a pixel border may it fall to the other side.
                assert not difference.max(-1)[:, ~border(name, images.shape[1:3], m, sign)].any(), name
                assert (difference > 0).mean() < 0.02, name
            elif name == "Sharpness":
                # The reference's float sum of nine products truncates below an exact integer now and then.
                assert difference.max() <= max(1, m / 10 * 1.8) and (difference > 0).mean() < 0.01, name
            else:
                # A product within rounding of an integer may truncate to the other side.
                assert difference.max() <= 1 and (difference > 0).mean() < 2e-3, name


def test_cutout_square():
    images = batch()
    index = jnp.full(BATCH, tensorflow_ops.OPS.index("Cutout"))
    centre = jnp.array([[0.5, 0.5], [0.0, 0.0], [0.99, 0.99], [0.2, 0.9], [0.5, 0.0], [0.7, 0.7]])
    out = np.asarray(apply(images, index, jnp.ones(BATCH), centre, 2.0))
    for image, original, (cy, cx) in zip(out, images, np.asarray(centre), strict=True):
        expected = original.copy()
        y, x = int(cy * 40), int(cx * 48)
        expected[max(y - 8, 0) : y + 8, max(x - 8, 0) : x + 8] = 128
        np.testing.assert_array_equal(image, expected)


def test_mixed_batches_do_not_leak():
    """Each image gets its own operation, whatever its neighbours got."""
    images = batch()
    index = jnp.array([0, 3, 6, 9, 13, 15])
    mixed = APPLY(images, index, jnp.ones(BATCH), 10.0)
    for i in range(BATCH):
        alone = APPLY(images, jnp.full(BATCH, index[i]), jnp.ones(BATCH), 10.0)
        np.testing.assert_array_equal(mixed[i], alone[i])
