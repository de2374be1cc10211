"""torchvision's policies against torchvision's samplers: which operation, how often, how strongly."""

import jax.numpy as jnp
import numpy as np
import pytest
import reference  # noqa: F401 - defines what importing torchvision needs
import torch
from PIL import Image
from policy_draws import DRAWS, MEAN, drawn, pairs, same_distribution
from scipy import stats

from jaxvision.augment import make_policy, pillow_ops, torchvision_policies
from jaxvision.errors import UserError


@pytest.mark.slow
def test_trivialaugment_is_torchvisions(monkeypatch):
    from torchvision.transforms import autoaugment

    ((kinds, values, *_),) = drawn(make_policy("trivial", mean=MEAN, interpolation="bilinear"))
    seen = []
    monkeypatch.setattr(autoaugment, "_apply_op", lambda img, op, magnitude, **kw: seen.append((op, magnitude)) or img)
    torch.manual_seed(0)
    transform, image = autoaugment.TrivialAugmentWide(), Image.new("RGB", (176, 176))
    for _ in range(30_000):
        transform(image)
    counts = np.array([(kinds == name).sum() for name in torchvision_policies.TRIVIAL_OPS])
    assert counts.sum() == DRAWS and stats.chisquare(counts).pvalue > 1e-4
    for name in torchvision_policies.TRIVIAL_OPS:
        theirs = np.array([m for op, m in seen if op == name])
        if name in ("Brightness", "Color", "Contrast", "Sharpness"):
            theirs = theirs + 1.0
        if name.startswith("Translate"):
            theirs = np.trunc(theirs)
        mine = values[kinds == name]
        levels = np.unique(np.round(theirs, 4))
        np.testing.assert_allclose(np.unique(np.round(mine, 4)), levels, atol=2e-4, err_msg=name)
        if len(levels) > 1:
            table = [[(np.abs(v - level) < 1e-3).sum() for level in levels] for v in (mine, theirs)]
            assert stats.chi2_contingency(table).pvalue > 1e-4, name


@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Posterize", "Solarize"])
def test_trivialaugment_pixels_are_torchvisions(name):
    from sklearn.datasets import load_sample_images
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.autoaugment import _apply_op

    photo = load_sample_images().images[1][80:256, 200:376]
    magnitude = {"Rotate": 40.5, "Posterize": 4, "Solarize": 102.0}.get(name, 12.8 if "Trans" in name else 0.33)
    expected = np.asarray(
        _apply_op(Image.fromarray(photo), name, magnitude, interpolation=InterpolationMode.BILINEAR, fill=None)
    ).astype(int)
    errors = []
    for sign in (1, -1):  # a positive translation moves the image the other way there; the sign is a coin
        value = jnp.array([sign * (np.trunc(magnitude) if "Trans" in name else magnitude)], jnp.float32)
        kind = jnp.array([pillow_ops.KINDS.index(name)])
        found = pillow_ops.apply(photo[None], kind, value, fill=(0, 0, 0), interpolation="bilinear")[0]
        errors.append((np.abs(np.asarray(found).astype(int) - expected).max(-1) > 1).mean())
    assert min(errors) < 0.001, errors


def torchvision_draws(transform, size, count, monkeypatch):
    """(operation, Pillow's argument) of each applied operation, an image per row."""
    from torchvision.transforms import autoaugment

    rows = []

    def record(img, op, magnitude, **kw):
        argument = np.trunc(magnitude) if op.startswith("Translate") or op == "Posterize" else magnitude
        rows[-1].append((op, round(float(argument) + (op in torchvision_policies.FACTORS), 2)))
        return img

    monkeypatch.setattr(autoaugment, "_apply_op", record)
    torch.manual_seed(0)
    image = Image.new("RGB", size)
    for _ in range(count):
        rows.append([])
        transform(image)
    return [tuple(row) for row in rows]


def test_torchvisions_randaugment(monkeypatch):
    from torchvision.transforms import RandAugment

    layers = drawn(make_policy("tv-ra-n3-m14", mean=MEAN, interpolation="bilinear"))
    assert len(layers) == 3 and layers[2].fill == (0, 0, 0)
    rows = torchvision_draws(RandAugment(3, 14), (160, 200), 20_000, monkeypatch)
    ours = [(name, round(float(v), 2)) for name, v in zip(layers[2].names, layers[2].values, strict=True)]
    assert same_distribution(ours, [draw for row in rows for draw in row]) > 1e-4
    for text in ("tv-ra-m31", "tv-ra-n0", "tv-rax", "tv-ra-m9-n2"):
        with pytest.raises(UserError, match=text):
            make_policy(text, mean=MEAN, interpolation="bilinear")


@pytest.mark.slow
def test_torchvisions_autoaugment(monkeypatch):
    from torchvision.transforms import AutoAugment

    policy = make_policy("tv-imagenet", mean=MEAN, interpolation="bilinear")
    rows = torchvision_draws(AutoAugment(), (160, 200), 40_000, monkeypatch)
    # Equalize, Invert and AutoContrast have no argument.
    assert same_distribution(pairs(policy, ("Equalize", "Invert", "AutoContrast")), rows) > 1e-4
