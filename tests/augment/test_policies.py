"""Policies against timm's and torchvision's samplers: which operation, how often, how strongly."""

import collections
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from reference import timm  # noqa: F401  (as everywhere, without the warnings of its import)
from scipy import stats
from timm.data import auto_augment

from jaxvision.augment import make_policy, pil, policies, torchvision_policies
from jaxvision.errors import UserError
from jaxvision.ops.backend import lower_for

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

    policy = torchvision_policies.trivialaugment_wide()
    kinds, values = drawn(policy)
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
        kind = jnp.array([pil.KINDS.index(name)])
        found = pil.apply(photo[None], kind, value, fill=(0, 0, 0), interpolation="bilinear")[0]
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


def compared(ours, theirs):
    """Chi-square of two samples of hashable draws over the draws that are common, and none that only one has."""
    mine, other = collections.Counter(ours), collections.Counter(theirs)
    common = [key for key, count in other.items() if count > 20]
    assert set(common) <= set(mine), set(common) - set(mine)
    assert {key for key, count in mine.items() if count > 40} <= set(other)
    return stats.chi2_contingency([[mine[key] for key in common], [other[key] for key in common]]).pvalue


def test_torchvisions_randaugment(monkeypatch):
    from torchvision.transforms import RandAugment

    policy = make_policy("tv-ra-n3-m14", mean=MEAN, interpolation="bilinear")
    assert policy.layers == 3 and policy.fill == (0, 0, 0)
    rows = torchvision_draws(RandAugment(3, 14), (160, 200), 20_000, monkeypatch)
    kinds, values = drawn(policy, layer=2)
    ours = [(kind, round(float(v), 2)) for kind, v in zip(kinds, values, strict=True)]
    assert compared(ours, [draw for row in rows for draw in row]) > 1e-4
    for text in ("tv-ra-m31", "tv-ra-n0", "tv-rax", "tv-ra-m9-n2"):
        with pytest.raises(UserError, match=text):
            make_policy(text, mean=MEAN, interpolation="bilinear")


def test_torchvisions_autoaugment(monkeypatch):
    from torchvision.transforms import AutoAugment

    policy = make_policy("tv-imagenet", mean=MEAN, interpolation="bilinear")
    rows = torchvision_draws(AutoAugment(), (160, 200), 40_000, monkeypatch)
    both = zip(*(zip(*drawn(policy, layer=layer), strict=True) for layer in (0, 1)), strict=True)
    without = ("Equalize", "Invert", "AutoContrast")
    ours = [
        tuple((kind, 0.0 if kind in without else round(float(v), 2)) for kind, v in pair if kind != "Identity")
        for pair in both
    ]
    assert compared(ours, rows) > 1e-4


def test_tensorflows_autoaugment_draws_v0(monkeypatch):
    """Pairs with their probabilities, and the arguments of tensorflow/tpu's constants."""
    from jaxvision.augment import autoaugment, randaugment

    layers = []
    monkeypatch.setattr(autoaugment, "tf_apply", lambda im, op, value, centre: layers.append((op, value)) or im)
    policy = make_policy("tf-v0", mean=MEAN, interpolation="bilinear")
    policy(None, jax.random.uniform(jax.random.key(0), (DRAWS, policy.uniforms)))
    (first, a), (second, b) = [tuple(map(np.asarray, layer)) for layer in layers]
    pairs = autoaugment.POLICIES["v0"]
    expected = collections.Counter()
    for (op1, p1, _), (op2, p2, _) in pairs:
        for one, q1 in ((op1, p1), (None, 1 - p1)):
            for two, q2 in ((op2, p2), (None, 1 - p2)):
                expected[one, two] += q1 * q2 * DRAWS / len(pairs)
    names = [*randaugment.TF_OPS, None]  # -1: nothing
    found = collections.Counter((names[i], names[j]) for i, j in zip(first, second, strict=True))
    keys = [key for key, count in expected.items() if count > 1e-6]
    assert set(found) <= set(keys)
    assert stats.chisquare([found[k] for k in keys], [expected[k] for k in keys]).pvalue > 1e-4
    # Level 9 of 10: 225 of 250 pixels; solarize at 10 wraps to 0 (inverts); posterize at 6 keeps 2 bits.
    assert set(np.abs(b[second == names.index("TranslateY")])) == {225.0}
    assert 0.0 in set(b[second == names.index("Solarize")]) and 2.0 in set(a[first == names.index("Posterize")])
    rotations = a[first == names.index("Rotate")]
    assert abs((rotations > 0).mean() - 0.5) < 0.02


@pytest.mark.parametrize("text", ["rand-m9-mstd0.5-inc1", "v0", "tf-v0", "trivial", "tv-imagenet", "3a"])
def test_the_cpus_form_computes_nothing_twice_and_gives_the_same_pixels(text):
    """XLA:CPU fused each operation into all taps of the next one: nine times the work, and ten times the time."""
    policy = make_policy(text, mean=MEAN, interpolation="bicubic")
    images = np.random.default_rng(0).integers(0, 256, (16, 48, 40, 3), np.uint8)
    uniforms = jax.random.uniform(jax.random.key(1), (16, policy.uniforms))
    ours = jax.jit(lambda x, u: policy(x, u)).lower(images, uniforms).compile()
    with lower_for("gpu"):
        other = jax.jit(lambda x, u: policy(x, u)).lower(images, uniforms).compile()
    assert ours.cost_analysis()["flops"] < 0.7 * other.cost_analysis()["flops"]
    difference = np.abs(np.asarray(ours(images, uniforms), int) - np.asarray(other(images, uniforms), int))
    # A sum of products may be rounded otherwise, at a level's edge.
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-4
    assert (np.asarray(ours(images, uniforms)) != images).mean() > 0.2
