"""Mixup and CutMix: who is mixed with whom, the labels, and timm's statistics of boxes and lambdas."""

import jax
import numpy as np
import pytest
from reference import timm
from scipy import stats

from jaxvision.augment import AugmentConfig, Mix, make_mix

N, SIZE = 8, 24


def labelled(n=N, size=SIZE):
    """Image i is the constant i, with a one-hot target: the result shows what came from whom."""
    images = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, size, size, 3)).copy()
    return images, np.eye(n, dtype=np.float32)


@pytest.mark.parametrize("pairing", ["reverse", "roll"])
@pytest.mark.parametrize("groups", [1, 2])
def test_cutmix_pastes_the_partner_and_its_share_is_the_label(pairing, groups):
    images, targets = labelled()
    mix = jax.jit(Mix(cutmix=1.0, pairing=pairing, groups=groups))
    seen = set()
    for seed in range(20):
        mixed, soft = map(np.asarray, mix(jax.random.key(seed), images, targets))
        shares = []
        for i in range(N):
            size = N // groups
            first, place = i // size * size, i % size
            partner = first + (size - 1 - place if pairing == "reverse" else (place - 1) % size)
            assert set(np.unique(mixed[i])) <= {float(i), float(partner)}
            kept = (mixed[i] == i).mean() if partner != i else 1.0
            expected = kept * np.eye(N)[i] + (1 - kept) * np.eye(N)[partner]
            np.testing.assert_allclose(soft[i], expected, atol=1e-6)
            pasted = np.argwhere(mixed[i, :, :, 0] != i)
            if len(pasted):  # one full rectangle
                (top, left), (bottom, right) = pasted.min(0), pasted.max(0)
                assert len(pasted) == (bottom - top + 1) * (right - left + 1)
            shares.append(round(kept, 6))
        for g in range(groups):
            assert len(set(shares[g * N // groups : (g + 1) * N // groups])) == 1  # one box a group
        seen.add(tuple(shares))
    assert len(seen) > 10


def test_mixup_blends_images_as_labels():
    images, targets = labelled()
    mixed, soft = map(np.asarray, jax.jit(Mix(mixup=0.8))(jax.random.key(1), images, targets))
    lam = soft[0, 0]
    assert 0 < lam < 1
    np.testing.assert_allclose(mixed[:, 0, 0, 0], lam * np.arange(N) + (1 - lam) * np.arange(N)[::-1], rtol=1e-5)
    np.testing.assert_allclose(soft, lam * np.eye(N) + (1 - lam) * np.eye(N)[::-1], atol=1e-6)
    # Each example its own lambda, folded to the larger half (automl, big_vision).
    _, soft = map(
        np.asarray, jax.jit(Mix(mixup=0.8, per_example=True, symmetric=True))(jax.random.key(1), images, targets)
    )
    lams = soft[np.arange(N), np.arange(N)]
    assert len(set(lams.round(6))) == N and lams.min() >= 0.5
    assert not Mix() and not Mix(mixup=0.8, prob=0.0) and Mix(cutmix=1.0)
    same, soft = map(np.asarray, Mix(mixup=0.8, cutmix=1.0, prob=1e-9)(jax.random.key(0), images, targets))
    np.testing.assert_array_equal(same, images)
    np.testing.assert_array_equal(soft, targets)
    with pytest.raises(ValueError, match="3 groups of equal size"):
        Mix(mixup=1.0, groups=3)(jax.random.key(0), images, targets)


def test_lambdas_boxes_and_choices_have_timms_distribution():
    count, (height, width) = 20_000, (97, 64)
    mix = Mix(mixup=0.8, cutmix=1.0, prob=0.7, switch=0.4)
    is_cut, lam, box = jax.jit(mix.draw, static_argnums=(1, 2, 3))(jax.random.key(0), count, height, width)
    is_cut, lam, box = np.asarray(is_cut), np.asarray(lam), np.stack(box, 1)

    np.random.seed(0)
    reference = timm.data.mixup.Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, prob=0.7, switch_prob=0.4)
    theirs, boxes = [], []
    for _ in range(count):
        value, use_cutmix = reference._params_per_batch()
        if value != 1 and use_cutmix:
            edges, value = timm.data.mixup.cutmix_bbox_and_lam((1, 3, height, width), value)
            boxes.append(edges)
        theirs.append((use_cutmix, value))
    untouched, expected = (lam == 1).mean(), np.mean([value == 1 for _, value in theirs])
    assert abs(untouched - expected) < 0.015
    mixed_up = np.array([value for cut, value in theirs if not cut and value != 1])
    assert stats.ks_2samp(lam[~is_cut & (lam != 1)], mixed_up).pvalue > 1e-3
    cut = is_cut & (lam != 1)
    assert stats.ks_2samp(lam[cut], [value for cut, value in theirs if cut and value != 1]).pvalue > 1e-3
    assert abs(cut.mean() - len([1 for c, v in theirs if c and v != 1]) / count) < 0.015
    for edge, other in zip(box[cut].T, np.array(boxes).T, strict=True):
        assert stats.ks_2samp(edge, other).pvalue > 1e-3


def test_halves_mix_one_half_and_cut_the_other():
    """automl's batch: Mixup in the first half of each group, CutMix in the second, partners within a half."""
    images, targets = labelled()
    mix = jax.jit(Mix(mixup=0.2, cutmix=0.2, per_example=True, symmetric=True, halves=True))
    cut, lams = 0, []
    for seed in range(30):
        mixed, soft = map(np.asarray, mix(jax.random.key(seed), images, targets))
        for i in range(N):
            partner = 3 - i if i < 4 else 11 - i
            assert set(np.flatnonzero(soft[i])) <= {i, partner}
            values = np.unique(mixed[i])
            if i < 4:
                assert len(values) == 1 and soft[i, i] >= 0.5
                lams.append(soft[i, i])
            else:
                assert set(values) <= {float(i), float(partner)}
                cut += len(values) > 1
    assert cut > 30 and len(set(np.round(lams, 4))) > 60
    with pytest.raises(ValueError, match="2 groups of equal size"):
        Mix(mixup=1.0, cutmix=1.0, halves=True)(jax.random.key(0), images[:5], targets[:5])


def test_make_mix_reads_the_config():
    config = AugmentConfig(
        mixup=0.2, cutmix=0.5, mix_prob=0.9, mix_switch=0.4, mix_pairing="roll", mix_per_example=True,
        mix_symmetric=True, mix_halves=True,
    )  # fmt: skip
    expected = Mix(
        mixup=0.2, cutmix=0.5, prob=0.9, switch=0.4, pairing="roll", per_example=True, symmetric=True, halves=True,
        groups=4,
    )  # fmt: skip
    assert make_mix(config, groups=4) == expected
    assert make_mix(AugmentConfig(mixup=0.2, mix_groups="global"), groups=4).groups == 1
    assert not make_mix(AugmentConfig(), groups=4)
