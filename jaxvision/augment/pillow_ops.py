"""Pillow's image operations on uint8 batches (B, H, W, 3), an operation and an argument for each image.

The policies of timm and torchvision choose from these. Geometry is one affine gather and every tone curve one look-up
table, so the cost does not depend on which operation is chosen. Values differ from Pillow's by one gray level at most,
but for a few pixels (tests/augment/test_pillow_ops.py states the bounds).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augment import image_ops
from jaxvision.augment.stage import Stage
from jaxvision.ops.materialize import materialize

# Each operation with the unit of its argument, where it has one.
KINDS = (
    "Identity", "AutoContrast", "Equalize", "Invert",
    "Rotate",  # degrees, counter-clockwise
    "Posterize",  # bits that are kept, a whole number
    "Solarize",  # threshold: this level and higher ones are inverted
    "SolarizeAdd",  # what is added to levels below 128, a whole number
    "Color", "Contrast", "Brightness", "Sharpness",  # factor; 1 changes nothing
    "ShearX", "ShearY",  # pixels per pixel
    "TranslateX", "TranslateY",  # pixels, to the left and upwards
)  # fmt: skip
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
RANDOM_INTERPOLATIONS = ("bilinear", "bicubic")  # timm's "random" is one of them, for each image and operation


def kind_indices(names: tuple[str, ...]) -> np.ndarray:
    """Indices into :data:`KINDS`."""
    return np.array([KINDS.index(name) for name in names])


def layered(
    uniforms: int,
    layers: int,
    choose: Callable[[jax.Array, int, int, int], tuple[jax.Array, jax.Array]],
    *,
    fill: tuple[int, int, int],
    interpolation: str,
    rotation: str | None = None,
) -> Stage:
    """A stage that applies ``layers`` operations to each image, one after the other.

    Args:
      uniforms: how many random numbers ``choose`` needs for an image.
      layers: number of operations.
      choose: ``choose(uniforms, layer, height, width)`` returns kinds and values for :func:`apply`.
      fill: see :func:`apply`.
      interpolation: of geometric operations, one of :data:`INTERPOLATIONS`, or "random" for one of
        :data:`RANDOM_INTERPOLATIONS` in each image and layer, which takes one more random number a layer.
      rotation: the interpolation of Rotate, where it has another.
    """
    random = interpolation == "random"

    def stage(images: jax.Array, u: jax.Array) -> jax.Array:
        height, width = images.shape[1:3]
        for layer in range(layers):
            kind, value = choose(u, layer, height, width)
            chosen: str | jax.Array = interpolation
            if random:
                names = np.array([INTERPOLATIONS.index(name) for name in RANDOM_INTERPOLATIONS])
                chosen = jnp.asarray(names)[(u[:, uniforms + layer] * len(names)).astype(jnp.int32)]
            elif rotation is not None:
                names = [INTERPOLATIONS.index(name) for name in (rotation, interpolation)]
                chosen = jnp.where(kind == KINDS.index("Rotate"), *names)
            images = apply(images, kind, value, fill=fill, interpolation=chosen)
        return images

    return Stage(uniforms + layers * random, stage)


def apply(
    images: jax.Array, kind: jax.Array, value: jax.Array, *, fill: tuple[int, int, int], interpolation: str | jax.Array
) -> jax.Array:
    """Applies one operation to each image.

    Args:
      images: uint8 (B, H, W, 3).
      kind: int (B,), index into :data:`KINDS`.
      value: float (B,), the operation's argument, in the unit that :data:`KINDS` states.
      fill: color of pixels that come from outside the image.
      interpolation: of geometric operations, one of :data:`INTERPOLATIONS`, or an index into them for each image, int
        (B,).

    Returns:
      uint8, like ``images``.
    """
    is_kind = {name: kind == i for i, name in enumerate(KINDS)}
    images = warp(images, matrices(is_kind, value, *images.shape[1:3]), fill, interpolation)
    # Materialized, because XLA on a CPU would otherwise warp again for each tap of every operation that follows.
    return materialize(tone(materialize(images), kind, value))


def tone(images: jax.Array, kind: jax.Array, value: jax.Array) -> jax.Array:
    """:func:`apply` without the geometric kinds, which leave the image unchanged here."""
    is_kind = {name: kind == i for i, name in enumerate(KINDS)}
    result = image_ops.look_up(images, materialize(_tables(is_kind, value, images)))
    factor = value[:, None, None, None]

    def pick(name: str, yes: jax.Array, no: jax.Array) -> jax.Array:
        return jnp.where(is_kind[name][:, None, None, None], yes, no)

    result = pick("Color", image_ops.blend(luma(images)[..., None], images, factor), result)
    return pick("Sharpness", image_ops.blend(smooth(images), images, factor), result)


def matrices(is_kind: dict[str, jax.Array], value: jax.Array, height: int, width: int) -> jax.Array:
    """Matrices (B, 2, 3) from output to input, pixel centres at halves, as Pillow's ``Image.rotate`` and ``AFFINE``."""
    t = -jnp.deg2rad(value)
    cos, sin = jnp.cos(t), jnp.sin(t)
    cx, cy = width / 2, height / 2
    rotation = jnp.stack(
        [jnp.stack([cos, sin, cx - cos * cx - sin * cy], -1), jnp.stack([-sin, cos, cy + sin * cx - cos * cy], -1)], -2
    )
    return image_ops.chosen_matrix(is_kind, value, rotation)


def warp(images: jax.Array, matrix: jax.Array, fill: tuple[int, int, int], interpolation: str | jax.Array) -> jax.Array:
    """Pillow's affine transform.

    Pixels from outside the image get ``fill``; taps beyond the border repeat it; results are truncated.

    Args:
      images: uint8 (B, H, W, 3).
      matrix: float32 (B, 2, 3), of :func:`matrices`.
      fill: a color.
      interpolation: one of :data:`INTERPOLATIONS`, or an index into them for each image, int (B,).

    Returns:
      uint8, like ``images``.
    """
    _, height, width, _ = images.shape
    ys, xs = jnp.meshgrid(
        jnp.arange(height, dtype=jnp.float32) + 0.5, jnp.arange(width, dtype=jnp.float32) + 0.5, indexing="ij"
    )
    color = jnp.asarray(fill, jnp.uint8)

    def one(image: jax.Array, m: jax.Array, name: str | jax.Array) -> jax.Array:
        x = m[0, 0] * xs + m[0, 1] * ys + m[0, 2]
        y = m[1, 0] * xs + m[1, 1] * ys + m[1, 2]
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        if isinstance(name, str) and name == "nearest":
            row, column = (jnp.floor(c).astype(jnp.int32) for c in (y, x))
            values = image[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
            return jnp.where(inside[..., None], values, color)
        x, y = x - 0.5, y - 0.5
        left, top = jnp.floor(x), jnp.floor(y)
        first, across = _taps(x - left, name)
        first, down = _taps(y - top, name)
        total: jax.Array | float = 0.0
        for i, v in enumerate(down):
            row = jnp.clip(top.astype(jnp.int32) + first + i, 0, height - 1)
            line: jax.Array | float = 0.0
            for j, u in enumerate(across):
                column = jnp.clip(left.astype(jnp.int32) + first + j, 0, width - 1)
                line = line + u[..., None] * image[row, column].astype(jnp.float32)
            total = total + v[..., None] * line
        # A float32 may be just below the whole number that Pillow's float64 reaches.
        return jnp.where(inside[..., None], image_ops.to_uint8(total + 1e-3), color)

    if isinstance(interpolation, str):
        return jax.vmap(lambda image, m: one(image, m, interpolation))(images, matrix)
    return jax.vmap(one)(images, matrix, interpolation)


def _taps(d: jax.Array, interpolation: str | jax.Array) -> tuple[int, list[jax.Array]]:
    """The place of the first tap around a coordinate whose fraction is ``d``, and the weights of all taps."""
    # Keys' cubic with a = -1, as in Pillow's transform (its resize has a = -0.5).
    bicubic = [-d * (1 - d) ** 2, (1 - 2 * d**2 + d**3), d * (1 + d - d**2), -(d**2) * (1 - d)]
    if not isinstance(interpolation, str):
        nothing, near = jnp.zeros_like(d), (d >= 0.5).astype(d.dtype)
        nearest, bilinear = [nothing, 1 - near, near, nothing], [nothing, 1 - d, d, nothing]
        chosen = [interpolation == i for i in range(len(INTERPOLATIONS))]
        return -1, [jnp.select(chosen, weights) for weights in zip(nearest, bilinear, bicubic, strict=True)]
    return (-1, bicubic) if interpolation == "bicubic" else (0, [1 - d, d])


def _tables(is_kind: dict[str, jax.Array], value: jax.Array, images: jax.Array) -> jax.Array:
    """Tone curves, uint8 (B, 256, 3); the identity where the kind is not a tone curve."""
    batch, _, _, channels = images.shape
    levels = jnp.arange(image_ops.LEVELS)[None]
    argument = value[:, None]
    whole = argument.astype(jnp.int32)
    shift = jnp.clip(8 - whole, 0, 8)  # 8 bits are all: the image is unchanged
    gray = mean_luma(luma(images))
    curves = {
        "Invert": 255 - levels,
        "Posterize": (levels >> shift) << shift,
        "Solarize": jnp.where(levels < argument, levels, 255 - levels),
        "SolarizeAdd": jnp.where(levels < 128, jnp.minimum(levels + whole, 255), levels),
        "Contrast": image_ops.blend(gray[:, None], levels, argument),
        "Brightness": image_ops.blend(jnp.zeros((1, 1)), levels, argument),
    }
    table = jnp.broadcast_to(levels.astype(jnp.uint8), (batch, image_ops.LEVELS))
    for name, curve in curves.items():
        table = jnp.where(is_kind[name][:, None], curve.astype(jnp.uint8), table)
    table = jnp.broadcast_to(table[..., None], (batch, image_ops.LEVELS, channels))
    table = jnp.where(is_kind["AutoContrast"][:, None, None], image_ops.autocontrast_table(images), table)
    return jnp.where(is_kind["Equalize"][:, None, None], image_ops.equalize_table(image_ops.histogram(images)), table)


def luma(images: jax.Array) -> jax.Array:
    """Pillow's conversion to "L", int32 (B, H, W): ITU-R 601 in 16-bit fixed point."""
    weights = jnp.array([19595, 38470, 7471], jnp.int32)
    return (jnp.sum(images.astype(jnp.int32) * weights, -1) + 0x8000) >> 16


def mean_luma(luma: jax.Array) -> jax.Array:
    """The gray level (B,) that Contrast blends with: ``int(mean + 0.5)`` of :func:`luma`, exact in integers."""
    pixels = luma.shape[1] * luma.shape[2]
    return (2 * jnp.sum(luma, (1, 2)) + pixels) // (2 * pixels)


def smooth(images: jax.Array) -> jax.Array:
    """``ImageFilter.SMOOTH``: 3x3, centre 5, others 1, divided by 13, rounded; the one-pixel border is unchanged."""
    height, width = images.shape[1:3]
    wide = images.astype(jnp.int32)
    around = sum(wide[:, i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3))
    inner = (2 * (around + 4 * wide[:, 1:-1, 1:-1]) + 13) // 26
    return images.at[:, 1:-1, 1:-1].set(inner.astype(jnp.uint8))
