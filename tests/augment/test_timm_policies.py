"""timm's policies against timm's samplers: which operation, how often, how strongly."""

import collections
import random

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from policy_draws import DRAWS, MEAN, drawn, pairs, same_distribution
from reference import timm
from scipy import stats

from jaxvision.augment import make_policy, pillow_ops, timm_policies
from jaxvision.errors import UserError

auto_augment = timm.data.auto_augment


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
    layers = drawn(make_policy(text, mean=MEAN, interpolation="bicubic"))
    kinds, values, fill, interpolation = layers[0]
    assert fill == (124, 116, 104) and interpolation == "bicubic"
    arguments = timm_policies.parse_rand(text)
    seen, calls = timm_draws(text, DRAWS // arguments.layers // 2, monkeypatch)
    assert calls.max() == arguments.layers == len(layers)

    by_name = collections.defaultdict(list)
    for name, value in seen:
        by_name[name].append(value)
    assert set(by_name) == set(timm_policies.OPS)
    counts = np.array([(kinds == name).sum() for name in ("Identity", *timm_policies.OPS)])
    share = arguments.prob / len(timm_policies.OPS)
    expected = DRAWS * np.array([1 - arguments.prob, *[share] * len(timm_policies.OPS)])
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-4
    for name in timm_policies.OPS:
        mine, theirs = values[kinds == name], np.array(by_name[name], float)
        if len(np.unique(theirs)) > 12:
            assert stats.ks_2samp(mine, theirs).pvalue > 1e-4, name
        else:  # whole numbers, or a fixed magnitude with a sign
            levels = np.unique(np.round(theirs, 3))
            np.testing.assert_allclose(np.unique(np.round(mine, 3)), levels, atol=2e-3, err_msg=name)
            if len(levels) > 1:
                table = [[(np.abs(v - level) < 1e-2).sum() for level in levels] for v in (mine, theirs)]
                assert stats.chi2_contingency(table).pvalue > 1e-4, name


def test_random_interpolation_is_drawn_for_each_image_and_operation():
    """timm's _interpolation: bilinear or bicubic, with equal probability."""
    layers = drawn(make_policy("rand-m9-n2-mstd0.5-inc1", mean=MEAN, interpolation="random"))
    chosen = [np.array(pillow_ops.INTERPOLATIONS)[layer.interpolation] for layer in layers]
    assert set(chosen[0]) == {"bilinear", "bicubic"}
    assert stats.chisquare(list(collections.Counter(zip(*chosen, strict=True)).values())).pvalue > 1e-4
    # Neither the operation nor its strength says which.
    for layer, names in zip(layers, chosen, strict=True):
        for kind in ("Rotate", "ShearX"):
            assert abs((names[layer.names == kind] == "bilinear").mean() - 0.5) < 0.05
        assert abs(np.corrcoef(names == "bilinear", layer.values)[0, 1]) < 0.02


@pytest.mark.parametrize("name", ["original", "v0"])
def test_autoaugment_is_timms(name, monkeypatch):
    policy = make_policy(name, mean=MEAN, interpolation="bicubic")
    seen, seen_pairs = [], []
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
        seen_pairs.append(tuple((op, round(float(v), 2)) for op, v in seen))
    # Equalize, Invert and AutoContrast have no argument.
    assert same_distribution(pairs(policy, ("Equalize", "Invert", "AutoContrast")), seen_pairs) > 1e-4


def test_timm_strings_are_read_or_rejected():
    assert timm_policies.parse_rand("rand-m9-mstd0.5-inc1") == timm_policies.RandArguments(9.0, 2, 0.5, 0.5, 10.0, True)
    assert timm_policies.parse_rand("rand-n3-p0.8") == timm_policies.RandArguments(10.0, 3, 0.8, 0.0, 10.0, False)
    for text in ("rand-m9-mst0.5", "rand-m", "rand-tweights", "augmix-m5", "rand-m9_mstd0.5"):
        with pytest.raises(UserError, match=text):
            timm_policies.parse_rand(text)


@pytest.mark.slow
def test_a_layer_is_timms_image():
    """The same operation at the same magnitude on a photograph, through timm's own code."""
    from sklearn.datasets import load_sample_images

    photo = load_sample_images().images[0][80:304, 100:324]
    values = timm_policies.arguments(jnp.array([9.3]), jnp.array([True]), True, 224, 224)
    worst = {}
    for name in timm_policies.OPS:
        theirs = {"TranslateX": "TranslateXRel", "TranslateY": "TranslateYRel"}.get(name, name)
        theirs += "Increasing" if f"{name}Increasing" in auto_augment.NAME_TO_OP else ""
        hparams = {"img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
        op = auto_augment.AugmentOp(theirs, prob=1.0, magnitude=9.3, hparams=hparams)
        random.seed(next(seed for seed in range(20) if random.Random(seed).random() <= 0.5))  # the positive sign
        expected = np.asarray(op(Image.fromarray(photo))).astype(int)
        kind = jnp.array([pillow_ops.KINDS.index(name)])
        found = pillow_ops.apply(photo[None], kind, values[name], fill=(124, 116, 104), interpolation="bicubic")[0]
        difference = np.abs(np.asarray(found).astype(int) - expected).max(-1)
        worst[name] = (difference > 1).mean()
    assert max(worst.values()) < 0.001, worst
