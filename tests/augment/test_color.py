"""Color jitter, PCA lighting, 3-Augment and its blur, against torchvision, timm and Pillow."""

import collections
import itertools
import random

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageFilter
from reference import timm  # noqa: F401  (as everywhere, without the warnings of its import)
from scipy import stats
from sklearn.datasets import load_sample_images
from timm.data import auto_augment

from jaxvision.augment import color, make_augment, make_policy, ops, pil

RNG = np.random.default_rng(0)


def images(count=6):
    photos = [p[100:164, 200:280] for p in load_sample_images().images]
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (64, 80, 3), np.uint8) for _ in range(count - 2)]
    return np.stack([*photos, *noise])


def test_gaussian_blur_is_pillows_bit_for_bit():
    batch = images()
    for radii in (RNG.uniform(0.1, 2.0, (20, 6)), np.full((1, 6), 0.1), np.full((1, 6), 2.0)):
        for radius in radii:
            radius = radius.astype(np.float32)
            expected = np.stack(
                [
                    np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(float(r))))
                    for image, r in zip(batch, radius, strict=True)
                ]
            )
            found = np.asarray(color.gaussian_blur(batch, jnp.asarray(radius)))
            difference = np.abs(found.astype(int) - expected)
            assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_colour_jitter_is_torchvisions_in_every_order():
    from torchvision.transforms import functional

    operations = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    batch, strength = images(), 0.4
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


def test_colour_jitters_factors_are_torchvisions():
    from torchvision.transforms import ColorJitter

    jitter = ColorJitter(1.5, 0.3, 0.3)
    assert tuple(jitter.brightness) == (0.0, 2.5) and tuple(jitter.contrast) == (0.7, 1.3)
    white = np.full((2, 4, 4, 3), 100, np.uint8)
    low = color.color_jitter(white, jnp.array([[0.0, 0.0, 0.5, 0.5], [0.0, 0.999999, 0.5, 0.5]]), 1.5)
    assert low[0].max() == 0 and low[1].min() >= 249  # brightness from max(0, 1 - s) to 1 + s


def test_lighting_is_alexnets():
    u = jax.random.uniform(jax.random.key(0), (100_000, 3))
    added = np.asarray(color.lighting(u, 0.1))[:, 0, 0]
    vectors = np.array(color.EIGENVECTORS)
    expected = (vectors * (0.1 * np.array(color.EIGENVALUES)) ** 2) @ vectors.T
    np.testing.assert_allclose(np.cov(added.T), expected, rtol=0.03, atol=1e-7)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=2e-3)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    batch = images()
    expected = (batch / 255 + added[:6, None, None] - np.array(mean)) / np.array(std)
    found = ops.normalise(batch, mean, std, jnp.float32, jnp.asarray(added)[:6, None, None])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_three_augment_draws_and_does_what_timm_does(monkeypatch):
    seen = []
    true = dict(auto_augment.NAME_TO_OP)

    def recorder(name):
        return lambda image, *args, **kwargs: seen.append((name, args[0] if args else None)) or image

    monkeypatch.setattr(auto_augment, "NAME_TO_OP", {name: recorder(name) for name in true})
    transform = auto_augment.auto_augment_transform("3a", {"img_mean": (1, 2, 3)})
    random.seed(0)
    for _ in range(3000):
        transform(None)
    counts = collections.Counter(name for name, _ in seen)
    assert set(counts) == {"Solarize", "Desaturate", "GaussianBlurRand"} and sum(counts.values()) == 3000
    assert {value for name, value in seen if name == "Solarize"} == {128}
    assert {value for name, value in seen if name == "Desaturate"} == {1.0}

    policy = make_policy("3a", mean=(0.5, 0.5, 0.5), interpolation="bicubic")
    u = np.asarray(jax.random.uniform(jax.random.key(0), (100_000, policy.uniforms)))
    choices = np.bincount((u[:, 0] * 3).astype(int), minlength=3)
    assert stats.chisquare(choices).pvalue > 1e-4

    batch = images()
    u = np.array([[0.1, 0.5], [0.5, 0.5], [0.9, 0.5], [0.9, 0.0], [0.9, 0.99], [0.4, 0.1]], np.float32)
    found = np.asarray(policy(jnp.asarray(batch), jnp.asarray(u))).astype(int)
    gauss = lambda image, v: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.1 + 1.9 * v)))  # noqa: E731
    expected = [
        np.asarray(true["Desaturate"](Image.fromarray(batch[0]), 1.0)),
        np.asarray(true["Solarize"](Image.fromarray(batch[1]), 128)),
        *(gauss(batch[i], float(u[i, 1])) for i in (2, 3, 4)),
        np.asarray(true["Solarize"](Image.fromarray(batch[5]), 128)),
    ]
    assert np.abs(found - np.stack(expected)).max() <= 1


def test_a_batch_with_everything_on_stays_deterministic_and_finite():
    policy = make_policy("3a", mean=(0.5, 0.5, 0.5), interpolation="bicubic")
    program = make_augment(
        seed=1, mean=(0.5,) * 3, std=(0.5,) * 3, dtype=jnp.float32, flip=True, layers=1, magnitude=5.0, policy=policy,
        color_jitter=0.3, lighting=0.1, erase_prob=0.5,
    )  # fmt: skip
    first, again = (np.asarray(jax.jit(program)(images(), 3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first).all() and np.asarray(pil.luma(images())).dtype == np.int32
