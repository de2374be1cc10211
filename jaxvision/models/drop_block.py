"""DropBlock (Ghiasi et al. 2018, arXiv 1810.12890): squares of a map are zeroed in training."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Kinds of DropBlock in ResNeSts: timm's, one per block, or that of ResNeSt's code, three per block.
KINDS = ("timm", "resnest")


def drop_block(x: jax.Array, rate: jax.Array | float, key: jax.Array, size: int = 3) -> jax.Array:
    """timm's ``drop_block_2d``: squares for each image, the same in all channels.

    Kept values are divided by the kept share of the batch.

    Args:
      x: (N, H, W, C).
      rate: approximate share to drop; may be traced.
      key: of the squares' centres.
      size: pixels of a square's side, odd.
    """
    n, height, width, _ = x.shape
    share = _centre_share(height, width, size)
    centres = jax.random.bernoulli(key, rate * share, (n, height, width, 1)).astype(jnp.float32)
    keep = _kept(centres, size)
    return x * (keep * (keep.size / (jnp.sum(keep) + 1e-7))).astype(x.dtype)


def shared_drop_block(x: jax.Array, rate: jax.Array | float, key: jax.Array, groups: int, size: int = 3) -> jax.Array:
    """DropBlock of ResNeSt's code: squares for each channel, the same in all images of a device.

    Kept values are divided by the kept share over all channels. Source: zhanghang1989/ResNeSt
    ``resnest/gluon/dropblock.py``. On maps smaller than a square its formula divides by zero; here the square is cut to
    the map.

    Args:
      x: (N, H, W, C).
      rate: approximate share to drop; may be traced.
      key: of the squares' centres.
      groups: number of consecutive groups of the batch, one per device; each has its own squares.
      size: pixels of a square's side, odd.
    """
    n, height, width, channels = x.shape
    gamma = rate * _centre_share(height, width, size)
    centres = jax.random.uniform(key, (groups, height, width, channels)) < gamma
    keep = _kept(centres.astype(jnp.float32), size)
    scale = keep[0].size / jnp.maximum(jnp.sum(keep, (1, 2, 3), keepdims=True), 1.0)
    grouped = x.reshape(groups, n // groups, height, width, channels)
    return (grouped * (keep * scale)[:, None].astype(x.dtype)).reshape(x.shape)


def _centre_share(height: int, width: int, size: int) -> float:
    """The factor from the rate to the probability that a pixel is a centre."""
    down, across = min(size, height), min(size, width)
    return height * width / (down * across) / ((height - down + 1) * (width - across + 1))


def _kept(centres: jax.Array, size: int) -> jax.Array:
    """0 in the squares around the centres, (N, H, W, C), and 1 elsewhere."""
    down, across = (min(size, side) for side in centres.shape[1:3])
    window, pad = (1, down, across, 1), ((0, 0), (down // 2,) * 2, (across // 2,) * 2, (0, 0))
    dropped = jax.lax.reduce_window(centres, 0.0, jax.lax.max, window, (1,) * 4, pad)
    # An even window, on maps smaller than the square, gives one place too many.
    return 1.0 - dropped[:, (down + 1) % 2 :, (across + 1) % 2 :]
