"""What the operations of Pillow and of TensorFlow are built from: uint8 batches (B, H, W, 3), arguments for each image.

All geometry is one gather by an affine matrix, and all tone curves are one look-up table. So the cost does not grow
with the number of operations that a policy chooses from.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

LEVELS = 256


def flip(images: jax.Array, chosen: jax.Array) -> jax.Array:
    """Mirrors the images where ``chosen``, bool (B,), is true, left to right."""
    return jnp.where(chosen[:, None, None, None], images[:, :, ::-1], images)


def affine(
    batch: int,
    *,
    xy: jax.Array | None = None,
    x0: jax.Array | None = None,
    yx: jax.Array | None = None,
    y0: jax.Array | None = None,
) -> jax.Array:
    """Identity matrices, float32 (B, 2, 3), with the given entries (B,) replaced.

    The rows are x = (xx, xy, x0) and y = (yx, yy, y0): ``xy`` and ``yx`` shear, ``x0`` and ``y0`` translate.
    """
    matrix = jnp.broadcast_to(jnp.eye(2, 3), (batch, 2, 3))
    for value, row, column in ((xy, 0, 1), (x0, 0, 2), (yx, 1, 0), (y0, 1, 2)):
        if value is not None:
            matrix = matrix.at[:, row, column].set(value)
    return matrix


def chosen_matrix(chosen: dict[str, jax.Array], value: jax.Array, rotation: jax.Array) -> jax.Array:
    """Matrices (B, 2, 3) of the geometric operation that each image has; the identity where it has another.

    Args:
      chosen: by operation's name, for which images it is (B,), bool.
      value: (B,), the shear, or the translation in pixels.
      rotation: (B, 2, 3), the matrices of "Rotate".
    """
    batch = value.shape[0]
    candidates = {
        "Rotate": rotation,
        "ShearX": affine(batch, xy=value),
        "ShearY": affine(batch, yx=value),
        "TranslateX": affine(batch, x0=value),
        "TranslateY": affine(batch, y0=value),
    }
    matrix = affine(batch)
    for name, candidate in candidates.items():
        matrix = jnp.where(chosen[name][:, None, None], candidate, matrix)
    return matrix


def look_up(images: jax.Array, table: jax.Array) -> jax.Array:
    """Replaces every value by ``table[b, value, channel]``, of a table uint8 (B, 256, C)."""

    def one(image: jax.Array, rows: jax.Array) -> jax.Array:
        return jnp.take_along_axis(rows, image.reshape(-1, image.shape[-1]).astype(jnp.int32), 0).reshape(image.shape)

    return jax.vmap(one)(images, table)


def histogram(images: jax.Array) -> jax.Array:
    """Number of pixels at each level, for each image and channel: int32 (B, 256, C)."""
    batch, height, width, channels = images.shape
    flat = images.reshape(batch, height * width, channels).astype(jnp.int32)
    rows = jnp.arange(batch)[:, None, None]
    columns = jnp.arange(channels)[None, None]
    return jnp.zeros((batch, LEVELS, channels), jnp.int32).at[rows, flat, columns].add(1)


def autocontrast_table(images: jax.Array) -> jax.Array:
    """Tone curves, uint8 (B, 256, C), that stretch each channel from its darkest and lightest level to 0 and 255."""
    low = images.min((1, 2)).astype(jnp.float32)[:, None]
    high = images.max((1, 2)).astype(jnp.float32)[:, None]
    values = jnp.arange(LEVELS, dtype=jnp.float32)[None, :, None]
    scale = 255.0 / jnp.maximum(high - low, 1.0)
    return jnp.where(high > low, to_uint8(values * scale - low * scale), values.astype(jnp.uint8))


def equalize_table(counts: jax.Array) -> jax.Array:
    """Tone curves, uint8 (B, 256, C), that equalize a histogram (B, 256, C).

    ``(cumulative + step // 2) // step``, where ``step`` is the number of pixels below the last occupied level, divided
    by 255.
    """
    total = counts.sum(1, keepdims=True)
    last = jnp.where(counts > 0, jnp.arange(LEVELS)[None, :, None], 0).max(1, keepdims=True)
    step = (total - jnp.take_along_axis(counts, last, 1)) // 255
    cumulative = jnp.cumsum(counts, 1) - counts  # of the levels below: the reference shifts its table by one
    table = jnp.clip((cumulative + step // 2) // jnp.maximum(step, 1), 0, 255).at[:, 0].set(0)
    identity = jnp.arange(LEVELS)[None, :, None]
    return jnp.where(step > 0, table, identity).astype(jnp.uint8)


def to_uint8(values: jax.Array) -> jax.Array:
    """Clips to [0, 255] and truncates."""
    return jnp.clip(values, 0, 255).astype(jnp.uint8)


def blend(degenerate: jax.Array, images: jax.Array, factor: jax.Array | float) -> jax.Array:
    """``degenerate + factor * (images - degenerate)``, clipped and truncated to uint8; factors over 1 extrapolate."""
    degenerate, images = degenerate.astype(jnp.float32), images.astype(jnp.float32)
    return to_uint8(degenerate + factor * (images - degenerate))


def normalise(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...], dtype: jnp.dtype | type) -> jax.Array:
    """``(images / 255 - mean) / std`` in float32, cast to ``dtype``."""
    scale = 1.0 / (255.0 * np.array(std, np.float32))
    offset = np.array(mean, np.float32) / np.array(std, np.float32)
    return (images.astype(jnp.float32) * scale - offset).astype(dtype)
