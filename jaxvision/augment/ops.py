"""Image operations on uint8 batches (B, H, W, 3), every image with its own arguments.

All geometry is one gather by an affine matrix and all tone curves are one look-up
table, so the cost does not grow with the number of operations a policy may draw.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

LEVELS = 256


def flip(images: jax.Array, chosen: jax.Array) -> jax.Array:
    """Mirrors the images where ``chosen`` (B,) is true, left to right."""
    return jnp.where(chosen[:, None, None, None], images[:, :, ::-1], images)


def warp_nearest(images: jax.Array, matrix: jax.Array, fill: int) -> jax.Array:
    """Affine transform: output pixel (x, y) is input pixel ``matrix @ (x, y, 1)``, rounded half away from zero.

    Args:
      images: uint8 (B, H, W, C).
      matrix: float32 (B, 2, 3), from output to input coordinates, pixel centres at integers.
      fill: value outside the image.
    """
    _, height, width, _ = images.shape
    ys, xs = jnp.meshgrid(jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32), indexing="ij")

    def one(image: jax.Array, m: jax.Array) -> jax.Array:
        x = _round(m[0, 0] * xs + m[0, 1] * ys + m[0, 2])
        y = _round(m[1, 0] * xs + m[1, 1] * ys + m[1, 2])
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        values = image[jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)]
        return jnp.where(inside[..., None], values, jnp.asarray(fill, image.dtype))

    return jax.vmap(one)(images, matrix)


def _round(x: jax.Array) -> jax.Array:
    # To a grid first: many coordinates are halves up to the last bit, which depends on how XLA
    # vectorises a batch, and an image must not depend on its neighbours.
    x = jnp.round(x * 8192) / 8192
    return jnp.trunc(x + jnp.copysign(0.5, x)).astype(jnp.int32)


def rotation(radians: jax.Array, height: int, width: int) -> jax.Array:
    """Matrices (B, 2, 3) of a rotation about the centre, as TensorFlow's ``angles_to_projective_transforms``."""
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    x0 = ((width - 1) - (cos * (width - 1) - sin * (height - 1))) / 2
    y0 = ((height - 1) - (sin * (width - 1) + cos * (height - 1))) / 2
    return jnp.stack([jnp.stack([cos, -sin, x0], -1), jnp.stack([sin, cos, y0], -1)], -2)


def affine(batch: int, **entries: jax.Array) -> jax.Array:
    """Identity matrices (B, 2, 3) with the named entries replaced: ``xy`` shears x, ``x0`` shifts x, ``yx``, ``y0``."""
    places = {"xx": (0, 0), "xy": (0, 1), "x0": (0, 2), "yx": (1, 0), "yy": (1, 1), "y0": (1, 2)}
    matrix = jnp.broadcast_to(jnp.eye(2, 3), (batch, 2, 3))
    for name, value in entries.items():
        row, column = places[name]
        matrix = matrix.at[:, row, column].set(value)
    return matrix


def look_up(images: jax.Array, table: jax.Array) -> jax.Array:
    """Replaces every value by ``table[b, value, channel]``; table uint8 (B, 256, C)."""

    def one(image: jax.Array, rows: jax.Array) -> jax.Array:
        return jnp.take_along_axis(rows, image.reshape(-1, image.shape[-1]).astype(jnp.int32), 0).reshape(image.shape)

    return jax.vmap(one)(images, table)


def histogram(images: jax.Array) -> jax.Array:
    """Counts of each level per image and channel: int32 (B, 256, C)."""
    batch, height, width, channels = images.shape
    flat = images.reshape(batch, height * width, channels).astype(jnp.int32)
    rows = jnp.arange(batch)[:, None, None]
    columns = jnp.arange(channels)[None, None]
    return jnp.zeros((batch, LEVELS, channels), jnp.int32).at[rows, flat, columns].add(1)


def to_uint8(values: jax.Array) -> jax.Array:
    """Clips to [0, 255] and truncates."""
    return jnp.clip(values, 0, 255).astype(jnp.uint8)


def blend(degenerate: jax.Array, images: jax.Array, factor: jax.Array | float) -> jax.Array:
    """``degenerate + factor * (images - degenerate)``, clipped and truncated to uint8; factors beyond 1 extrapolate."""
    degenerate, images = degenerate.astype(jnp.float32), images.astype(jnp.float32)
    return to_uint8(degenerate + factor * (images - degenerate))


def normalise(
    images: jax.Array,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: jnp.dtype | type,
    added: jax.Array | None = None,
) -> jax.Array:
    """``(images / 255 + added - mean) / std`` in float32, cast to ``dtype``; ``added`` is (B, 1, 1, C)."""
    scale = 1.0 / (255.0 * np.array(std, np.float32))
    offset = np.array(mean, np.float32) / np.array(std, np.float32)
    if added is not None:
        offset = offset - added / np.array(std, np.float32)
    return (images.astype(jnp.float32) * scale - offset).astype(dtype)
