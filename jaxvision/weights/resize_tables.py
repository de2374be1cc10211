"""Position tables for another image size, resampled as timm does."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Size = tuple[int, int]


def resize_position_embedding(table: np.ndarray, prefix: int, old: Size, new: Size) -> np.ndarray:
    """A ViT's table on another grid: antialiased bicubic, prefix entries unchanged.

    Args:
      table: (1, prefix + old height * old width, C).
      prefix: entries of class and distillation tokens, in front.
      old, new: (height, width) of the grids.

    Returns:
      (1, prefix + new height * new width, C), float32.
    """
    table = np.asarray(table, np.float32)
    channels = table.shape[-1]
    grid = table[:, prefix:].reshape(*old, channels)
    grid = np.asarray(jax.image.resize(jnp.asarray(grid), (*new, channels), "cubic", antialias=True))
    return np.concatenate([table[:, :prefix], grid.reshape(1, -1, channels)], 1)


def resize_relative_position_table(table: np.ndarray, old: Size, new: Size) -> np.ndarray:
    """Swin's bias table for another window: linear on offsets that grow geometrically.

    Near offsets keep their entries, far ones are stretched: the old offsets are placed at
    0, 1, 1 + q, 1 + q + q^2, ..., with q such that the last meets the new window's last (BEiT's
    fine-tuning code; timm's default variant of it).

    Args:
      table: ((2 H - 1) (2 W - 1), heads) of the old window.
      old, new: (height, width) of the windows.

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
    # An axis that keeps its length is resampled, too: q is at least 1.01, there as in the reference.
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


def resized(module: nn.Module, params: dict[str, Any], size: Size) -> tuple[nn.Module, dict[str, Any]]:
    """A network built for one image size, and its parameters, for another; see ``Model.with_image_size``.

    Windows (Swin) keep their share of the map, as timm's ``set_input_size`` does.
    """
    if not hasattr(module, "window_size"):
        prefix = module.prefix_tokens if module.embed_class else 0
        new = module.clone(image_size=size)
        table = resize_position_embedding(np.asarray(params["pos_embed"]), prefix, module.grid, new.grid)
        return new, {**params, "pos_embed": jnp.asarray(table)}

    def grown(window: int | Size) -> Size:
        pair = (window, window) if isinstance(window, int) else window
        old = [side // 4 for side in module.image_size]
        first, second = (max(1, w * (side // 4) // o) for w, side, o in zip(pair, size, old, strict=True))
        return first, second

    new = module.clone(image_size=size, window_size=tuple(map(grown, module.window_size)))
    result = dict(params)
    for name, block in params.items():
        if ".blocks." in name and "relative_position_bias_table" in block["attn"]:
            stage = int(name.split(".")[1])
            table = np.asarray(block["attn"]["relative_position_bias_table"])
            table = resize_relative_position_table(table, module.windows(stage)[0], new.windows(stage)[0])
            result[name] = {**block, "attn": {**block["attn"], "relative_position_bias_table": jnp.asarray(table)}}
    return new, result
