"""Images that tests of the augmentation share."""

import numpy as np
from sklearn.datasets import load_sample_images


def photos_and_noise(count=6):
    """Two photographs and noise, uint8 (count, 64, 80, 3)."""
    photos = [p[100:164, 200:280] for p in load_sample_images().images]
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (64, 80, 3), np.uint8) for _ in range(count - 2)]
    return np.stack([*photos, *noise])
