"""3-Augment and its blur, against timm and Pillow."""

import collections
import random

import jax
import jax.numpy as jnp
import numpy as np
from photos import photos_and_noise
from PIL import Image, ImageFilter
from reference import timm
from scipy import stats

from jaxvision.augment import make_policy
from jaxvision.augment.three_augment import gaussian_blur

auto_augment = timm.data.auto_augment
RNG = np.random.default_rng(0)


def test_gaussian_blur_is_pillows_bit_for_bit():
    batch = photos_and_noise()
    for radii in (RNG.uniform(0.1, 2.0, (20, 6)), np.full((1, 6), 0.1), np.full((1, 6), 2.0)):
        for radius in radii:
            radius = radius.astype(np.float32)
            expected = np.stack(
                [
                    np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(float(r))))
                    for image, r in zip(batch, radius, strict=True)
                ]
            )
            found = np.asarray(gaussian_blur(batch, jnp.asarray(radius)))
            difference = np.abs(found.astype(int) - expected)
            assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


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

    batch = photos_and_noise()
    u = np.array([[0.1, 0.5], [0.5, 0.5], [0.9, 0.5], [0.9, 0.0], [0.9, 0.99], [0.4, 0.1]], np.float32)
    found = np.asarray(policy.apply(jnp.asarray(batch), jnp.asarray(u))).astype(int)
    gauss = lambda image, v: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.1 + 1.9 * v)))  # noqa: E731
    expected = [
        np.asarray(true["Desaturate"](Image.fromarray(batch[0]), 1.0)),
        np.asarray(true["Solarize"](Image.fromarray(batch[1]), 128)),
        *(gauss(batch[i], float(u[i, 1])) for i in (2, 3, 4)),
        np.asarray(true["Solarize"](Image.fromarray(batch[5]), 128)),
    ]
    assert np.abs(found - np.stack(expected)).max() <= 1
