"""Flip and normalisation."""

import jax.numpy as jnp
import numpy as np

from jaxvision.augment import image_ops


def test_normalise_and_flip():
    images = np.random.default_rng(0).integers(0, 256, (6, 40, 48, 3), np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images / 255.0 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(image_ops.normalise(jnp.asarray(images), mean, std, jnp.float32), expected, atol=2e-6)
    chosen = jnp.array([True, False] * 3)
    flipped = np.asarray(image_ops.flip(jnp.asarray(images), chosen))
    np.testing.assert_array_equal(flipped[0], images[0][:, ::-1])
    np.testing.assert_array_equal(flipped[1], images[1])
