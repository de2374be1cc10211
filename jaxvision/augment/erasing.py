"""Random Erasing (Zhong et al. 2017, arXiv 1708.04896) of normalised images, as timm and torchvision draw it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

ATTEMPTS = 10
FILLS = ("pixel", "channel", "zero")


def random_erasing(
    key: jax.Array,
    images: jax.Array,
    *,
    prob: float,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    fill: str = "pixel",
    max_count: int = 1,
) -> jax.Array:
    """Replaces boxes by noise.

    Args:
      key: of all draws.
      images: (B, H, W, C), after normalisation.
      prob: that an image is erased at all.
      area: range of a box's share of the image, divided by the number of boxes.
      aspect: range of height over width, log-uniform.
      fill: "pixel": N(0, 1) for every value (timm ``pixel``); "channel": one N(0, 1) per box and channel (timm
        ``rand``); "zero": the mean color (torchvision, timm ``const``).
      max_count: boxes per image, uniform from 1.

    Returns:
      Like ``images``. A box that does not fit in ten attempts is left out.
    """
    batch, height, width, channels = images.shape
    k_choice, k_box, k_noise = jax.random.split(key, 3)
    u = jax.random.uniform(k_choice, (2, batch))
    count = jnp.where(u[0] < prob, 1 + (u[1] * max_count).astype(jnp.int32), 0)
    draws = jax.random.uniform(k_box, (max_count, batch, ATTEMPTS, 4))
    noise = jax.random.normal(k_noise, images.shape, images.dtype) if fill == "pixel" else None
    rows, columns = jnp.arange(height), jnp.arange(width)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    for n in range(max_count):
        d = draws[n]
        target = (area[0] + (area[1] - area[0]) * d[..., 0]) * height * width / jnp.maximum(count, 1)[:, None]
        ratio = jnp.exp(low + (high - low) * d[..., 1])
        h, w = jnp.round(jnp.sqrt(target * ratio)), jnp.round(jnp.sqrt(target / ratio))
        fits = (h < height) & (w < width)
        first = fits.argmax(1)[:, None]
        pick = lambda x, first=first: jnp.take_along_axis(x, first, 1)[:, 0]  # noqa: E731
        h, w = pick(h), pick(w)
        top = jnp.floor(pick(d[..., 2]) * (height - h + 1))
        left = jnp.floor(pick(d[..., 3]) * (width - w + 1))
        in_rows = (rows >= top[:, None]) & (rows < (top + h)[:, None])
        in_columns = (columns >= left[:, None]) & (columns < (left + w)[:, None])
        erased = in_rows[:, :, None] & in_columns[:, None] & (fits.any(1) & (n < count))[:, None, None]
        if fill == "pixel":
            value = noise
        elif fill == "channel":
            value = jax.random.normal(jax.random.fold_in(k_noise, n), (batch, 1, 1, channels), images.dtype)
        else:
            value = jnp.zeros((), images.dtype)
        images = jnp.where(erased[..., None], value, images)
    return images
