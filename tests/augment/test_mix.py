"""Mixup, CutMix and random erasing: who is mixed with whom, the labels, and timm's statistics of boxes and lambdas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from reference import timm  # noqa: F401  (as everywhere, without the warnings of its import)
from scipy import stats
from timm.data.mixup import Mixup, cutmix_bbox_and_lam
from timm.data.random_erasing import RandomErasing

from jaxvision.augment.erasing import random_erasing
from jaxvision.augment.mix import Mix

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
    is_cut, lam, box = jax.jit(mix._draw, static_argnums=(1, 2, 3))(jax.random.key(0), count, height, width)
    is_cut, lam, box = np.asarray(is_cut), np.asarray(lam), np.stack(box, 1)

    np.random.seed(0)
    reference = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, prob=0.7, switch_prob=0.4)
    theirs, boxes = [], []
    for _ in range(count):
        value, use_cutmix = reference._params_per_batch()
        if value != 1 and use_cutmix:
            edges, value = cutmix_bbox_and_lam((1, 3, height, width), value)
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


def erased_boxes(batch):
    """(share, height, width, top, left) of the erased region of each image that has one."""
    found = []
    for image in batch:
        places = np.argwhere(image != 7.0)
        if len(places):
            (top, left), (bottom, right) = places.min(0)[:2], places.max(0)[:2]
            h, w = bottom - top + 1, right - left + 1
            found.append((h * w, h, w, top, left))
    return np.array(found)


def test_erasing_has_timms_boxes_and_noise():
    count, height, width = 4000, 40, 32
    images = np.full((count, height, width, 1), 7.0, np.float32)
    erase = jax.jit(lambda key, x: random_erasing(key, x, prob=0.25))
    ours = np.asarray(erase(jax.random.key(0), images))
    import random

    random.seed(0)
    torch.manual_seed(0)
    reference = RandomErasing(probability=0.25, mode="pixel", device="cpu")
    theirs = reference(torch.full((count, 1, height, width), 7.0)).permute(0, 2, 3, 1).numpy()
    mine, other = erased_boxes(ours), erased_boxes(theirs)
    assert abs(len(mine) - len(other)) < 120
    for a, b in zip(mine.T, other.T, strict=True):
        assert stats.ks_2samp(a, b).pvalue > 1e-3
    noise = ours[ours != 7.0]
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert stats.ks_2samp(noise[:20_000], theirs[theirs != 7.0][:20_000]).pvalue > 1e-3


def test_erasing_fills_and_counts():
    images = np.full((200, 32, 32, 3), 7.0, np.float32)
    zero = np.asarray(random_erasing(jax.random.key(0), images, prob=1.0, fill="zero", aspect=(0.3, 3.3)))
    assert set(np.unique(zero)) == {0.0, 7.0}
    channel = np.asarray(random_erasing(jax.random.key(0), images, prob=1.0, fill="channel"))
    assert max(len(np.unique(image[..., 0])) for image in channel) == 2
    assert len(np.unique(channel[..., 0])) > 150
    several = np.asarray(random_erasing(jax.random.key(0), images, prob=1.0, fill="channel", max_count=3))
    counts = [len(np.unique(image[..., 0])) - 1 for image in several]
    assert set(counts) == {1, 2, 3}
    assert several.dtype == np.float32 and jnp.asarray(several).shape == images.shape


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
