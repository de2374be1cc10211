"""ResNeSt's AutoAugment against Pillow, with the values of its transforms.py."""

import collections

import jax
import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from policy_draws import DRAWS, MEAN, pairs
from scipy import stats
from sklearn.datasets import load_sample_images

from jaxvision.augment import HOST_POLICIES, HOST_UNIFORMS, make_policy
from jaxvision.data.decode import HOST_POLICIES as NAMES

# (operation, probability, argument), as its code computes them from the magnitudes.
EQUALIZE, CONTRAST, INVERT = "Equalize", "AutoContrast", "Invert"
PAIRS = (
    (("Posterize", 0.4, 1), ("Rotate", 0.6, 27)),
    (("Solarize", 0.6, 128), (CONTRAST, 0.6, 0)),
    ((EQUALIZE, 0.8, 0), (EQUALIZE, 0.6, 0)),
    (("Posterize", 0.6, 2), ("Posterize", 0.6, 2)),
    ((EQUALIZE, 0.4, 0), ("Solarize", 0.2, 154)),
    ((EQUALIZE, 0.4, 0), ("Rotate", 0.8, 24)),
    (("Solarize", 0.6, 180), (EQUALIZE, 0.6, 0)),
    (("Posterize", 0.8, 2), (EQUALIZE, 1.0, 0)),
    (("Rotate", 0.2, 9), ("Solarize", 0.6, 52)),
    ((EQUALIZE, 0.6, 0), ("Posterize", 0.4, 2)),
    (("Rotate", 0.8, 24), ("Color", 0.4, 0.1)),
    (("Rotate", 0.4, 27), (EQUALIZE, 0.6, 0)),
    ((EQUALIZE, 0.0, 0), (EQUALIZE, 0.8, 0)),
    ((INVERT, 0.6, 0), (EQUALIZE, 1.0, 0)),
    (("Color", 0.6, 0.82), ("Contrast", 1.0, 1.54)),
    (("Rotate", 0.8, 24), ("Color", 1.0, 0.1)),
    (("Color", 0.8, 1.54), ("Solarize", 0.8, 77)),
    (("Sharpness", 0.4, 1.36), (INVERT, 0.6, 0)),
    (("ShearX", 0.6, 0.15), (EQUALIZE, 1.0, 0)),
    (("Color", 0.4, 0.1), (EQUALIZE, 0.6, 0)),
    ((EQUALIZE, 0.4, 0), ("Solarize", 0.2, 154)),
    (("Solarize", 0.6, 128), (CONTRAST, 0.6, 0)),
    ((INVERT, 0.6, 0), (EQUALIZE, 1.0, 0)),
    (("Color", 0.6, 0.82), ("Contrast", 1.0, 1.54)),
    ((EQUALIZE, 0.8, 0), (EQUALIZE, 0.6, 0)),
)
BICUBIC = Image.Resampling.BICUBIC


def shear(image, value):
    return image.transform(image.size, Image.Transform.AFFINE, (1, value, 0, 0, 1, 0), BICUBIC)


PILLOW = {
    "Posterize": ImageOps.posterize,
    "Solarize": ImageOps.solarize,
    "Rotate": lambda image, value: image.rotate(value),  # nearest, black
    "ShearX": shear,
    "Color": lambda image, value: ImageEnhance.Color(image).enhance(value),
    "Contrast": lambda image, value: ImageEnhance.Contrast(image).enhance(value),
    "Sharpness": lambda image, value: ImageEnhance.Sharpness(image).enhance(value),
    EQUALIZE: lambda image, value: ImageOps.equalize(image),
    CONTRAST: lambda image, value: ImageOps.autocontrast(image),
    INVERT: lambda image, value: ImageOps.invert(image),
}


def test_pairs_signs_and_probabilities():
    """Rotate and ShearX have either sign."""
    signed, expected = ("Rotate", "ShearX"), collections.Counter()

    def outcomes(operation):
        name, prob, value = operation
        values = (value, -value) if name in signed else (value,)
        return [((), 1 - prob), *((((name, round(float(v), 2)),), prob / len(values)) for v in values)]

    for first, second in PAIRS:
        for one, p in outcomes(first):
            for two, q in outcomes(second):
                expected[one + two] += p * q * DRAWS / len(PAIRS)
    found = collections.Counter(pairs(make_policy("resnest", mean=MEAN, interpolation="bilinear"), ()))
    keys = [key for key, count in expected.items() if count > 1e-6]
    assert set(found) == set(keys)
    assert stats.chisquare([found[k] for k in keys], [expected[k] for k in keys]).pvalue > 1e-4


def test_pixels_are_pillows():
    """Every pair with both operations and the positive sign, but the operation whose probability is 0."""
    photo = load_sample_images().images[0][100:164, 200:280]
    batch = np.stack([photo] * len(PAIRS))
    uniforms = np.full((len(PAIRS), 5), 0.0, np.float32)
    uniforms[:, 0] = (np.arange(len(PAIRS)) + 0.5) / len(PAIRS)
    uniforms[:, [2, 4]] = 0.9  # the sign
    policy = make_policy("resnest", mean=MEAN, interpolation="bilinear")
    found = np.asarray(jax.jit(policy.apply)(batch, uniforms)).astype(int)
    for pair, ours in zip(PAIRS, found, strict=True):
        image = Image.fromarray(photo)
        for name, prob, value in pair:
            image = PILLOW[name](image, value) if prob else image
        difference = np.abs(ours - np.asarray(image)).max(-1)
        # Pillow's rotation rounds coordinates in fixed point; Equalize after it spreads a difference of one level.
        assert (difference > 1).mean() < 0.01, pair


def test_on_the_host_it_is_the_code_itself():
    """Every pair with both signs, by Pillow, bit for bit; operations are applied with their probabilities."""
    assert ("", *HOST_POLICIES) == NAMES and HOST_UNIFORMS == 5
    photo = load_sample_images().images[0][100:164, 200:280]
    apply, identical = HOST_POLICIES["resnest"], 0
    for i, pair in enumerate(PAIRS):
        for u in (0.1, 0.3, 0.5, 0.7, 0.9):
            for coin in (0.2, 0.8):
                image = Image.fromarray(photo)
                for name, prob, value in pair:
                    value = -value if name in ("Rotate", "ShearX") and coin < 0.5 else value
                    image = PILLOW[name](image, value) if u < prob else image
                found = apply(photo, np.array([(i + 0.5) / len(PAIRS), u, coin, u, coin]))
                np.testing.assert_array_equal(found, np.asarray(image))
                identical += found is photo
    assert identical > 50  # nothing is copied where no operation is applied
