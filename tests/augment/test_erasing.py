"""Random erasing: timm's statistics of boxes, fills and counts."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import torch
from reference import timm
from scipy import stats

from jaxvision.augment.config import AugmentConfig
from jaxvision.augment.erasing import random_erasing

DEFAULT = AugmentConfig()


def erase(key, images, *, prob, fill="pixel", aspect=DEFAULT.erase_aspect, max_count=1):
    return random_erasing(
        key, images, prob=prob, area=DEFAULT.erase_area, aspect=aspect, fill=fill, max_count=max_count
    )


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
    ours = np.asarray(jax.jit(lambda key, x: erase(key, x, prob=0.25))(jax.random.key(0), images))
    random.seed(0)
    torch.manual_seed(0)
    reference = timm.data.random_erasing.RandomErasing(probability=0.25, mode="pixel", device="cpu")
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
    zero = np.asarray(erase(jax.random.key(0), images, prob=1.0, fill="zero", aspect=(0.3, 3.3)))
    assert set(np.unique(zero)) == {0.0, 7.0}
    channel = np.asarray(erase(jax.random.key(0), images, prob=1.0, fill="channel"))
    assert max(len(np.unique(image[..., 0])) for image in channel) == 2
    assert len(np.unique(channel[..., 0])) > 150
    several = np.asarray(erase(jax.random.key(0), images, prob=1.0, fill="channel", max_count=3))
    counts = [len(np.unique(image[..., 0])) - 1 for image in several]
    assert set(counts) == {1, 2, 3}
    assert several.dtype == np.float32 and jnp.asarray(several).shape == images.shape
