"""Random Erasing (Zhong et al. 2017, arXiv 1708.04896) of normalised images, with timm's and torchvision's options."""

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
    area: tuple[float, float],
    aspect: tuple[float, float],
    fill: str,
    max_count: int,
) -> jax.Array:
    """Replaces random boxes of random images.

    Args:
      key: of all random numbers.
      images: (B, H, W, C), after normalisation.
      prob: the probability that any box of an image is erased.
      area: smallest and largest share of the image that is erased; each of several boxes gets an equal part.
      aspect: smallest and largest height over width of a box; its logarithm is uniform.
      fill: "pixel": a standard normal number for every value (timm ``pixel``); "channel": one for each box and channel
        (timm ``rand``); "zero": the mean color (torchvision, timm ``const``).
      max_count: the number of boxes per image is uniform from 1 to this.

    Returns:
      Like ``images``. A box that does not fit into the image in ten attempts is left out.
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
