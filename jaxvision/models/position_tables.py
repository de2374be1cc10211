"""Tables of position embeddings and biases, resampled for another image size as timm does; on the host, in numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Size = tuple[int, int]


def resize_position_embedding(table: np.ndarray, prefix: int, old: Size, new: Size) -> np.ndarray:
    """A position embedding per patch for another grid of patches: bicubic, antialiased.

    Args:
      table: (1, prefix + old height * old width, C).
      prefix: leading entries, of class and distillation tokens, that are copied.
      old, new: (height, width) of the grids, in patches.

    Returns:
      (1, prefix + new height * new width, C), float32.
    """
    table = np.asarray(table, np.float32)
    channels = table.shape[-1]
    grid = table[:, prefix:].reshape(*old, channels)
    grid = np.asarray(jax.image.resize(jnp.asarray(grid), (*new, channels), "cubic", antialias=True))
    return np.concatenate([table[:, :prefix], grid.reshape(1, -1, channels)], 1)


def resize_relative_position_table(table: np.ndarray, old: Size, new: Size) -> np.ndarray:
    """A bias per offset between two pixels of a window, for another window: linear over geometrically growing offsets.

    Near offsets keep their entries and far ones are stretched: the old offsets are placed at 0, 1, 1 + q, 1 + q + q^2,
    ..., with q such that the last one meets the new window's last (BEiT's fine-tuning code; timm's default variant).

    Args:
      table: ((2 H - 1) (2 W - 1), heads) of the old window.
      old, new: (height, width) of the windows, in pixels of the map.

    Returns:
      The same layout for the new window, float32.
    """
    if old == new:
        return np.asarray(table, np.float32)
    grid = np.asarray(table, np.float32).reshape(2 * old[0] - 1, 2 * old[1] - 1, -1)
    for axis in (0, 1):
        grid = _stretch(grid, axis, 2 * new[axis] - 1)
    return grid.reshape(-1, table.shape[-1])


def _stretch(grid: np.ndarray, axis: int, count: int) -> np.ndarray:
    # An axis that keeps its length is resampled as well: q is at least 1.01, as in the reference.
    source = grid.shape[axis]
    half = source // 2
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        if (1 - q**half) / (1 - q) > count // 2:
            high = q
        else:
            low = q
    far = np.cumsum([1.0] + [q ** (i + 1) for i in range(half - 1)])[:half]
    places = np.concatenate([-far[::-1], [0.0], far])
    targets = np.arange(count) - count // 2
    weights = np.stack([np.interp(targets, places, row) for row in np.eye(source)], 1)
    return np.moveaxis(np.tensordot(weights, grid, (1, axis)), 0, axis).astype(np.float32)
