"""Color jitter and lighting, against torchvision and AlexNet's covariance."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import reference  # noqa: F401 - defines what importing torchvision needs
from photos import photos_and_noise
from PIL import Image

from jaxvision.augment import color

RNG = np.random.default_rng(0)


def test_color_jitter_is_torchvisions_in_every_order():
    from torchvision.transforms import functional

    operations = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    batch, strength = photos_and_noise(), 0.4
    u = RNG.random((6, 4)).astype(np.float32)
    u[:, 0] = (np.arange(6) + 0.5) / 6  # each order once
    found = np.asarray(color.color_jitter(batch, jnp.asarray(u), strength))
    for image, uniforms, order, ours in zip(batch, u, itertools.permutations(range(3)), found, strict=True):
        expected = Image.fromarray(image)
        for kind in order:
            expected = operations[kind](expected, float(0.6 + 0.8 * uniforms[1 + kind]))
        # A level that rounds differently in one step moves by up to the next factor.
        difference = np.abs(ours.astype(int) - np.asarray(expected))
        assert difference.max() <= 3 and (difference > 1).mean() < 1e-3 and (difference > 0).mean() < 0.01


def test_color_jitters_factors_are_torchvisions():
    from torchvision.transforms import ColorJitter

    jitter = ColorJitter(1.5, 0.3, 0.3)
    assert tuple(jitter.brightness) == (0.0, 2.5) and tuple(jitter.contrast) == (0.7, 1.3)
    white = np.full((2, 4, 4, 3), 100, np.uint8)
    low = color.color_jitter(white, jnp.array([[0.0, 0.0, 0.5, 0.5], [0.0, 0.999999, 0.5, 0.5]]), 1.5)
    assert low[0].max() == 0 and low[1].min() >= 249  # brightness from max(0, 1 - s) to 1 + s


def test_lighting_is_alexnets():
    u = jax.random.uniform(jax.random.key(0), (100_000, 3))
    added = np.asarray(color.lighting_noise(u, 0.1))[:, 0, 0]
    vectors = np.array(color.EIGENVECTORS)
    expected = (vectors * (0.1 * np.array(color.EIGENVALUES)) ** 2) @ vectors.T
    np.testing.assert_allclose(np.cov(added.T), expected, rtol=0.03, atol=1e-7)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=2e-3)
    batch = photos_and_noise()
    expected = np.clip(batch + 255 * added[:6, None, None], 0, 255).astype(np.uint8)  # MXNet's saturate_cast
    np.testing.assert_array_equal(color.lighting(batch, u[:6], 0.1), expected)
    assert (batch == 255).any() and (expected == 255).any()


def test_mxnets_saturation_blends_with_blue():
    """Alone, where brightness and contrast have the factor 1: the formula of AdjustSaturationImpl, in every order."""
    batch, u = photos_and_noise(), np.full((6, 4), 0.5, np.float32)
    u[:, 0], u[:, 3] = (np.arange(6) + 0.5) / 6, RNG.random(6)
    factor = np.float32(0.6 + 0.8 * u[:, 3])[:, None, None, None]
    expected = np.clip((1 - factor) * (0.114 * batch[..., 2:]) + factor * batch, 0, 255)
    found = color.color_jitter(batch, jnp.asarray(u), 0.4, mxnet_saturation=True)
    # A sum within rounding of a whole level may be truncated to the one below.
    assert np.abs(found - np.floor(expected)).max() <= 1 and (found != np.floor(expected)).mean() < 0.01
    assert np.abs(color.color_jitter(batch, jnp.asarray(u), 0.4).astype(int) - expected).mean() > 5
