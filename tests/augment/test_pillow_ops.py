"""Pillow's operations: each against Pillow at random arguments, on noise and on photographs."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images

from jaxvision.augment.pillow_ops import KINDS, apply

FILL = (124, 116, 104)


def images():
    rng = np.random.default_rng(0)
    photos = [p[100:164, 200:280] for p in load_sample_images().images]
    noise = [rng.integers(0, 256, (64, 80, 3), np.uint8), rng.integers(40, 170, (64, 80, 3), np.uint8)]
    flat = [np.full((64, 80, 3), 77, np.uint8)]
    return np.stack([*photos, *noise, *flat, photos[0][::-1, ::-1]])


def solarize_add(image, add):
    return image.point([min(255, i + add) if i < 128 else i for i in range(256)] * 3)


def affine(image, data, mode):
    return image.transform(image.size, Image.Transform.AFFINE, data, resample=mode, fillcolor=FILL)


POINTWISE = {
    "Identity": (lambda r: 0.0, lambda im, v: im),
    "AutoContrast": (lambda r: 0.0, lambda im, v: ImageOps.autocontrast(im)),
    "Equalize": (lambda r: 0.0, lambda im, v: ImageOps.equalize(im)),
    "Invert": (lambda r: 0.0, lambda im, v: ImageOps.invert(im)),
    "Posterize": (lambda r: int(r.integers(1, 9)), lambda im, v: ImageOps.posterize(im, v)),
    "Solarize": (lambda r: int(r.integers(0, 257)), lambda im, v: ImageOps.solarize(im, v)),
    "SolarizeAdd": (lambda r: int(r.integers(0, 111)), solarize_add),
    "Color": (lambda r: r.uniform(0, 2), lambda im, v: ImageEnhance.Color(im).enhance(v)),
    "Contrast": (lambda r: r.uniform(0, 2), lambda im, v: ImageEnhance.Contrast(im).enhance(v)),
    "Brightness": (lambda r: r.uniform(0, 2), lambda im, v: ImageEnhance.Brightness(im).enhance(v)),
    "Sharpness": (lambda r: r.uniform(0, 2), lambda im, v: ImageEnhance.Sharpness(im).enhance(v)),
}
GEOMETRIC = {
    "Rotate": (lambda r: r.uniform(-135, 135), lambda im, v, m: im.rotate(v, resample=m, fillcolor=FILL)),
    "ShearX": (lambda r: r.uniform(-0.9, 0.9), lambda im, v, m: affine(im, (1, v, 0, 0, 1, 0), m)),
    "ShearY": (lambda r: r.uniform(-0.9, 0.9), lambda im, v, m: affine(im, (1, 0, 0, v, 1, 0), m)),
    "TranslateX": (lambda r: r.uniform(-40, 40), lambda im, v, m: affine(im, (1, 0, v, 0, 1, 0), m)),
    "TranslateY": (lambda r: r.uniform(-40, 40), lambda im, v, m: affine(im, (1, 0, 0, 0, 1, v), m)),
}
MODES = {
    "nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC,
}  # fmt: skip


def ours(batch, name, values, interpolation="nearest"):
    kind = jnp.full(len(batch), KINDS.index(name))
    return np.asarray(apply(batch, kind, jnp.asarray(values, jnp.float32), fill=FILL, interpolation=interpolation))


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_operations_are_pillows_to_one_level(name):
    draw, reference = POINTWISE[name]
    rng = np.random.default_rng(1)
    differing = []
    for _ in range(5):
        batch = images()
        values = [draw(rng) for _ in batch]
        expected = np.stack([np.asarray(reference(Image.fromarray(i), v)) for i, v in zip(batch, values, strict=True)])
        difference = np.abs(ours(batch, name, values).astype(int) - expected)
        assert difference.max() <= 1
        differing.append((difference > 0).mean())
    assert np.mean(differing) < 0.005  # a rounding at exact halves, nothing systematic


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometry_is_pillows(name, interpolation):
    """Interpolated: to one level but for 1 pixel in 2000, where a coordinate rounds across the image's edge."""
    draw, reference = GEOMETRIC[name]
    rng = np.random.default_rng(2)
    for _ in range(3):
        batch = images()
        values = [draw(rng) for _ in batch]
        expected = np.stack(
            [
                np.asarray(reference(Image.fromarray(i), v, MODES[interpolation]))
                for i, v in zip(batch, values, strict=True)
            ]
        )
        difference = np.abs(ours(batch, name, values, interpolation).astype(int) - expected).max(-1)
        allowed = 0 if interpolation == "nearest" else 1
        assert (difference > allowed).mean() < (0.004 if interpolation == "nearest" else 0.0005)


def test_each_image_has_its_own_operation():
    batch = images()
    kinds = jnp.array([KINDS.index(n) for n in ("Invert", "Rotate", "Color", "Equalize", "Identity", "Sharpness")])
    values = jnp.array([0.0, 30.0, 0.3, 0.0, 0.0, 1.7])
    mixed = np.asarray(apply(batch, kinds, values, fill=FILL, interpolation="bilinear"))
    for i, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        alone = ours(batch[i : i + 1], KINDS[int(kind)], [float(value)], "bilinear")
        np.testing.assert_array_equal(mixed[i : i + 1], alone)
    assert math.isclose(np.abs(mixed[4].astype(int) - batch[4]).max(), 0)


@pytest.mark.parametrize("name", GEOMETRIC)
def test_each_image_has_its_own_interpolation(name):
    batch = images()
    values = [GEOMETRIC[name][0](np.random.default_rng(3))] * len(batch)
    mixed = ours(batch, name, values, jnp.array([0, 1, 2, 2, 1, 0]))
    alone = [ours(batch, name, values, mode) for mode in MODES]
    for i, index in enumerate((0, 1, 2, 2, 1, 0)):
        np.testing.assert_array_equal(mixed[i], alone[index][i])
