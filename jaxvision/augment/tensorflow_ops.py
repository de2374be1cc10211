"""The image operations of tensorflow/tpu's AutoAugment code: uint8 batches (B, H, W, 3), an operation for each image.

Source: tensorflow/tpu ``models/official/efficientnet/autoaugment.py``, which ResNet-RS and EfficientNet use. It has
properties that are easy to get wrong, and they are reproduced here: magnitudes are divided by 10 and *not* clamped; the
threshold of Solarize wraps modulo 256 (M = 10 inverts); Posterize to 0 bits keeps one; Contrast blends with the number
of pixels / 256 instead of the mean; the fill is gray 128, and geometry is nearest neighbour.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augment import image_ops
from jaxvision.ops.materialize import materialize

OPS = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast", "Brightness",
    "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Cutout", "SolarizeAdd",
)  # fmt: skip
FILL = 128
SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


def argument(name: str, magnitude: float, translate_const: float, cutout_const: float) -> float:
    """The argument of an operation at a magnitude (10 is full strength); :func:`apply` states its unit."""
    level = magnitude / 10.0
    return {
        "Rotate": float(np.deg2rad(level * 30.0)),
        "Posterize": int(level * 4),
        "Solarize": int(level * 256) % 256,  # cast to uint8 in the reference, so it wraps
        "SolarizeAdd": int(level * 110),
        "Color": level * 1.8 + 0.1,
        "Contrast": level * 1.8 + 0.1,
        "Brightness": level * 1.8 + 0.1,
        "Sharpness": level * 1.8 + 0.1,
        "ShearX": level * 0.3,
        "ShearY": level * 0.3,
        "TranslateX": level * translate_const,
        "TranslateY": level * translate_const,
        "Cutout": int(level * cutout_const),
    }.get(name, 0.0)


def signed_value(index: jax.Array, value: jax.Array, uniform: jax.Array) -> jax.Array:
    """``value`` (B,), negated where the operation ``index`` (B,) has a sign and ``uniform`` (B,) is below 0.5."""
    signed = jnp.asarray(np.array([name in SIGNED for name in OPS]))[index]
    return jnp.where(signed & (uniform < 0.5), -value, value)


def apply(images: jax.Array, index: jax.Array, value: jax.Array, centre: jax.Array) -> jax.Array:
    """Applies one operation to each image.

    Args:
      images: uint8 (B, H, W, 3).
      index: int32 (B,), into :data:`OPS`; any other number leaves the image unchanged.
      value: float (B,), the operation's argument: radians (Rotate), bits that are kept (Posterize), a threshold
        (Solarize), what is added (SolarizeAdd), a factor (Color, Contrast, Brightness, Sharpness), pixels per pixel
        (Shear), pixels (Translate), half the side in pixels (Cutout).
      centre: (B, 2) in [0, 1), the centre of the cutout as shares of height and width.

    Returns:
      uint8, like ``images``.
    """
    is_op = {name: index == i for i, name in enumerate(OPS)}
    # Materialized, because XLA on a CPU would otherwise warp again for each tap of every operation that follows.
    images = materialize(warp_nearest(images, _matrix(is_op, images.shape, value), FILL))
    toned = image_ops.look_up(images, materialize(_table(is_op, images, value)))
    factor = value[:, None, None, None]

    def pick(name: str, yes: jax.Array, no: jax.Array) -> jax.Array:
        return jnp.where(is_op[name][:, None, None, None], yes, no)

    result = pick("Color", image_ops.blend(_gray(images), images, factor), toned)
    result = pick("Sharpness", _sharpness(images, factor), result)
    return materialize(pick("Cutout", _cutout(images, centre, value), result))


def warp_nearest(images: jax.Array, matrix: jax.Array, fill: int) -> jax.Array:
    """Affine transform: output pixel (x, y) is input pixel ``matrix @ (x, y, 1)``, rounded, halves away from zero.

    Args:
      images: uint8 (B, H, W, C).
      matrix: float32 (B, 2, 3), from output to input coordinates, pixel centres at integers.
      fill: value of output pixels whose input pixel is outside the image.
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
    # First to multiples of 1 / 8192. Many coordinates are halves but for their last bit. That bit depends on how XLA
    # vectorises the batch, and an image must not depend on the other images of its batch.
    x = jnp.round(x * 8192) / 8192
    return jnp.trunc(x + jnp.copysign(0.5, x)).astype(jnp.int32)


def rotation(radians: jax.Array, height: int, width: int) -> jax.Array:
    """Matrices (B, 2, 3) of a rotation about the centre, as TensorFlow's ``angles_to_projective_transforms``."""
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    x0 = ((width - 1) - (cos * (width - 1) - sin * (height - 1))) / 2
    y0 = ((height - 1) - (sin * (width - 1) + cos * (height - 1))) / 2
    return jnp.stack([jnp.stack([cos, -sin, x0], -1), jnp.stack([sin, cos, y0], -1)], -2)


def _matrix(is_op: dict[str, jax.Array], shape: tuple[int, ...], value: jax.Array) -> jax.Array:
    """Matrices (B, 2, 3) for :func:`warp_nearest`; the identity where the operation is not geometric."""
    _, height, width, _ = shape
    return image_ops.chosen_matrix(is_op, value, rotation(value, height, width))


def _table(is_op: dict[str, jax.Array], images: jax.Array, value: jax.Array) -> jax.Array:
    """Tone curves, uint8 (B, 256, 3); the identity where the operation is not a tone curve."""
    batch, height, width, _ = images.shape
    values = jnp.arange(image_ops.LEVELS)[None]
    factor = value[:, None]
    whole = factor.astype(jnp.int32)
    # TensorFlow shifts uint8 by 7 bits at most, and a negative shift, of more than 8 bits at magnitudes over 20, wraps
    # to a large one. So 0 bits and 9 or more keep the highest bit.
    shift = jnp.where((whole > 0) & (whole <= 8), 8 - whole, 7)
    gray = min(height * width / 256, 255.0)
    curves = {
        "Invert": 255 - values,
        "Posterize": (values >> shift) << shift,
        "Solarize": jnp.where(values < whole, values, 255 - values),
        "SolarizeAdd": jnp.where(values < 128, jnp.clip(values + whole, 0, 255), values),
        "Contrast": image_ops.blend(jnp.trunc(jnp.full((1, image_ops.LEVELS), gray)), values, factor),
        "Brightness": image_ops.blend(jnp.zeros((1, image_ops.LEVELS)), values, factor),
    }
    table = jnp.broadcast_to(values.astype(jnp.uint8)[..., None], (batch, image_ops.LEVELS, images.shape[-1]))
    for name, curve in curves.items():
        table = jnp.where(is_op[name][:, None, None], curve.astype(jnp.uint8)[..., None], table)
    table = jnp.where(is_op["AutoContrast"][:, None, None], image_ops.autocontrast_table(images), table)
    return jnp.where(is_op["Equalize"][:, None, None], image_ops.equalize_table(image_ops.histogram(images)), table)


def _gray(images: jax.Array) -> jax.Array:
    """``tf.image.rgb_to_grayscale`` of uint8: weighted in [0, 1], times 255.5, truncated."""
    weights = jnp.array([0.2989, 0.5870, 0.1140], jnp.float32)
    gray = jnp.sum(images.astype(jnp.float32) / 255.0 * weights, -1, keepdims=True)
    return jnp.trunc(gray * 255.5)


def _sharpness(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Blends with a 3x3 smoothing (centre 5, others 1, divided by 13); the one-pixel border is not smoothed."""
    height, width = images.shape[1:3]
    around = sum(images[:, i : height - 2 + i, j : width - 2 + j].astype(jnp.int32) for i in range(3) for j in range(3))
    # Truncated as in the reference, but exact in integers: the reference's float sum has a rounding error now and then.
    smooth = (around + 4 * images[:, 1:-1, 1:-1].astype(jnp.int32)) // 13
    degenerate = images.at[:, 1:-1, 1:-1].set(smooth.astype(jnp.uint8))
    return image_ops.blend(degenerate, images, factor)


def _cutout(images: jax.Array, centre: jax.Array, half: jax.Array) -> jax.Array:
    """Fills a square with half its side ``half`` (B,), cut off at the border of the image."""
    height, width = images.shape[1:3]
    half = half[:, None]
    cy = jnp.floor(centre[:, 0] * height)[:, None]
    cx = jnp.floor(centre[:, 1] * width)[:, None]
    rows, columns = jnp.arange(height)[None], jnp.arange(width)[None]
    in_rows = (rows >= cy - half) & (rows < cy + half)
    in_columns = (columns >= cx - half) & (columns < cx + half)
    return jnp.where((in_rows[:, :, None] & in_columns[:, None])[..., None], jnp.uint8(FILL), images)
