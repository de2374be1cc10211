"""Policies against timm's and torchvision's samplers: which operation, how often, how strongly."""

import collections
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from reference import timm
from scipy import stats
from timm.data import auto_augment

from jaxvision.augment import make_policy, pil, policies
from jaxvision.errors import UserError

assert timm
DRAWS = 100_000
MEAN = (0.485, 0.456, 0.406)


def drawn(policy, height=200, width=160, layer=0):
    u = jax.random.uniform(jax.random.key(0), (DRAWS, policy.uniforms))
    kind, value = map(np.asarray, jax.jit(policy.draw, static_argnums=(1, 2, 3))(u, layer, height, width))
    return np.array(pil.KINDS)[kind], value


def timm_draws(text, count, monkeypatch, height=200, width=160):
    """Runs timm's transform with its operations replaced by recorders."""
    seen = []
    ours = {"TranslateXRel": "TranslateX", "TranslateYRel": "TranslateY"}

    def recorder(name):
        short = ours.get(name, name.removesuffix("Increasing"))
        scale = {"TranslateXRel": width, "TranslateYRel": height}.get(name, 1)
        return lambda image, *args, **kwargs: seen.append((short, args[0] * scale if args else 0.0)) or image

    monkeypatch.setattr(auto_augment, "NAME_TO_OP", {name: recorder(name) for name in auto_augment.NAME_TO_OP})
    transform = auto_augment.rand_augment_transform(text, {"img_mean": (1, 2, 3)})
    random.seed(0)
    np.random.seed(0)
    image, calls = Image.new("RGB", (width, height)), []
    for _ in range(count):
        before = len(seen)
        transform(image)
        calls.append(len(seen) - before)
    return seen, np.array(calls)


STRINGS = ["rand-m9-mstd0.5-inc1", "rand-m7-mstd0.5", "rand-m15-n3-p0.8-mmax20", "rand-m6-mstd101-inc1"]


@pytest.mark.parametrize("text", STRINGS)
def test_timm_operations_and_magnitudes_have_timms_distribution(text, monkeypatch):
    policy = policies.timm_randaugment(text, mean=MEAN, interpolation="bicubic")
    kinds, values = drawn(policy)
    arguments = policies.parse_rand(text)
    seen, calls = timm_draws(text, DRAWS // arguments.layers // 2, monkeypatch)
    assert calls.max() == arguments.layers == policy.layers

    by_name = collections.defaultdict(list)
    for name, value in seen:
        by_name[name].append(value)
    assert set(by_name) == set(policies.TIMM_OPS)
    counts = np.array([(kinds == name).sum() for name in ("Identity", *policies.TIMM_OPS)])
    share = arguments.prob / len(policies.TIMM_OPS)
    expected = DRAWS * np.array([1 - arguments.prob, *[share] * len(policies.TIMM_OPS)])
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-4
    for name in policies.TIMM_OPS:
        mine, theirs = values[kinds == name], np.array(by_name[name], float)
        if len(np.unique(theirs)) > 12:
            assert stats.ks_2samp(mine, theirs).pvalue > 1e-4, name
        else:  # whole numbers, or a fixed magnitude with a sign
            levels = np.unique(np.round(theirs, 3))
            np.testing.assert_allclose(np.unique(np.round(mine, 3)), levels, atol=2e-3, err_msg=name)
            if len(levels) > 1:
                table = [[(np.abs(v - level) < 1e-2).sum() for level in levels] for v in (mine, theirs)]
                assert stats.chi2_contingency(table).pvalue > 1e-4, name


@pytest.mark.parametrize("name", ["original", "v0"])
def test_autoaugment_is_timms(name, monkeypatch):
    policy = make_policy(name, mean=MEAN, interpolation="bicubic")
    seen, pairs = [], []
    ours = {"TranslateYRel": "TranslateY", "PosterizeOriginal": "Posterize"}

    def recorder(op):
        scale = 200 if op == "TranslateYRel" else 1
        return lambda image, *args, **kwargs: seen.append((ours.get(op, op), args[0] * scale if args else 0.0)) or image

    monkeypatch.setattr(auto_augment, "NAME_TO_OP", {op: recorder(op) for op in auto_augment.NAME_TO_OP})
    transform = auto_augment.auto_augment_transform(name, {"img_mean": (1, 2, 3), "translate_const": 100})
    random.seed(0)
    for _ in range(DRAWS // 2):
        seen.clear()
        transform(None)
        pairs.append(tuple((op, round(float(v), 2)) for op, v in seen))
    first, second = drawn(policy), drawn(policy, layer=1)
    without = ("Equalize", "Invert", "AutoContrast")  # operations without an argument
    ours_pairs = [
        tuple((kind, 0.0 if kind in without else round(float(v), 2)) for kind, v in both if kind != "Identity")
        for both in zip(zip(*first, strict=True), zip(*second, strict=True), strict=True)
    ]
    expected, found = collections.Counter(pairs), collections.Counter(ours_pairs)
    common = [key for key, count in expected.items() if count > 20]
    assert set(common) <= set(found) and {key for key, count in found.items() if count > 40} <= set(expected)
    table = [[found[key] for key in common], [expected[key] for key in common]]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_timm_strings_are_read_or_rejected():
    assert policies.parse_rand("rand-m9-mstd0.5-inc1") == policies.RandArguments(9.0, 2, 0.5, 0.5, 10.0, True)
    assert policies.parse_rand("rand-n3-p0.8") == policies.RandArguments(10.0, 3, 0.8, 0.0, 10.0, False)
    for text in ("rand-m9-mst0.5", "rand-m", "rand-tweights", "augmix-m5", "rand-m9_mstd0.5"):
        with pytest.raises(UserError, match=text):
            policies.parse_rand(text)


def test_a_layer_is_timms_image():
    """The same operation at the same magnitude on a photograph, through timm's own code."""
    from sklearn.datasets import load_sample_images

    photo = load_sample_images().images[0][80:304, 100:324]
    values = policies.timm_values(jnp.array([9.3]), jnp.array([True]), True, 224, 224)
    worst = {}
    for name in policies.TIMM_OPS:
        theirs = {"TranslateX": "TranslateXRel", "TranslateY": "TranslateYRel"}.get(name, name)
        theirs += "Increasing" if f"{name}Increasing" in auto_augment.NAME_TO_OP else ""
        hparams = {"img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
        op = auto_augment.AugmentOp(theirs, prob=1.0, magnitude=9.3, hparams=hparams)
        random.seed(next(seed for seed in range(20) if random.Random(seed).random() <= 0.5))  # the positive sign
        expected = np.asarray(op(Image.fromarray(photo))).astype(int)
        kind = jnp.array([pil.KINDS.index(name)])
        found = pil.apply(photo[None], kind, values[name], fill=(124, 116, 104), interpolation="bicubic")[0]
        difference = np.abs(np.asarray(found).astype(int) - expected).max(-1)
        worst[name] = (difference > 1).mean()
    assert max(worst.values()) < 0.001, worst


def test_trivialaugment_is_torchvisions(monkeypatch):
    from torchvision.transforms import autoaugment

    policy = policies.trivialaugment_wide()
    kinds, values = drawn(policy)
    seen = []
    monkeypatch.setattr(autoaugment, "_apply_op", lambda img, op, magnitude, **kw: seen.append((op, magnitude)) or img)
    torch.manual_seed(0)
    transform, image = autoaugment.TrivialAugmentWide(), Image.new("RGB", (176, 176))
    for _ in range(30_000):
        transform(image)
    counts = np.array([(kinds == name).sum() for name in policies.TRIVIAL_OPS])
    assert counts.sum() == DRAWS and stats.chisquare(counts).pvalue > 1e-4
    for name in policies.TRIVIAL_OPS:
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
        kind = jnp.array([pil.KINDS.index(name)])
        found = pil.apply(photo[None], kind, value, fill=(0, 0, 0), interpolation="bilinear")[0]
        errors.append((np.abs(np.asarray(found).astype(int) - expected).max(-1) > 1).mean())
    assert min(errors) < 0.001, errors
