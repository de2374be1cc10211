"""RandAugment (Cubuk et al. 2019, arXiv 1909.13719) as TensorFlow's code computes it.

Source of the semantics: tensorflow/tpu ``models/official/efficientnet/autoaugment.py``,
which ResNet-RS uses. Facts that an obvious reimplementation gets wrong, and that are
reproduced here: magnitudes are divided by 10 and *not* clamped; the solarize threshold
wraps modulo 256 (M = 10 inverts); contrast blends with pixel count / 256 instead of the
mean; every drawn operation is applied; fill is gray 128 and geometry is nearest.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augment import ops
from jaxvision.ops.materialize import materialize

TF_OPS = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast", "Brightness",
    "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Cutout", "SolarizeAdd",
)  # fmt: skip
FILL = 128
SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
UNIFORMS = 4  # per layer and image: operation, sign, cutout centre


def tf_randaugment(
    layers: int, magnitude: float, *, translate_const: float = 100.0, cutout_const: float = 40.0
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """``apply(images, uniforms)``: ``layers`` operations per image, drawn with replacement from :data:`TF_OPS`.

    Args:
      layers: N.
      magnitude: M, of 10.
      translate_const: pixels of a translation at M = 10 (100 in tensorflow/tpu, 10 in Model Garden).
      cutout_const: half side of the cutout square at M = 10.

    Returns:
      A function of uint8 images (B, H, W, 3) and uniforms (B, layers * UNIFORMS).
    """
    table = np.array([tf_argument(name, magnitude, translate_const, cutout_const) for name in TF_OPS], np.float32)

    def apply(images: jax.Array, uniforms: jax.Array) -> jax.Array:
        for layer in range(layers):
            u = uniforms[:, layer * UNIFORMS : (layer + 1) * UNIFORMS]
            index = (u[:, 0] * len(TF_OPS)).astype(jnp.int32)
            value = tf_signed(index, jnp.asarray(table)[index], u[:, 1])
            images = tf_apply(images, index, value, u[:, 2:4])
        return images

    return apply


def tf_argument(name: str, magnitude: float, translate_const: float, cutout_const: float) -> float:
    """The argument of an operation at a magnitude of 10: see :func:`tf_apply` for its meaning."""
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


def tf_signed(index: jax.Array, value: jax.Array, uniform: jax.Array) -> jax.Array:
    """``value`` (B,), negative for half of the uniforms where the operation has a sign."""
    signed = jnp.asarray(np.array([name in SIGNED for name in TF_OPS]))[index]
    return jnp.where(signed & (uniform < 0.5), -value, value)


def tf_apply(images: jax.Array, index: jax.Array, value: jax.Array, centre: jax.Array) -> jax.Array:
    """One operation per image.

    Args:
      images: uint8 (B, H, W, 3).
      index: int32 (B,), of :data:`TF_OPS`; any other number leaves the image.
      value: float (B,), its argument: radians, bits kept, threshold, addition, factor, shear, pixels, half side.
      centre: uniforms (B, 2), of the cutout square's centre.
    """
    is_op = {name: index == i for i, name in enumerate(TF_OPS)}
    # Stored, else XLA:CPU would warp again for each tap of every operation that follows.
    images = materialize(ops.warp_nearest(images, _matrix(is_op, images.shape, value), FILL))
    tuned = ops.look_up(images, materialize(_table(is_op, images, value)))
    factor = value[:, None, None, None]

    def pick(name: str, yes: jax.Array, no: jax.Array) -> jax.Array:
        return jnp.where(is_op[name][:, None, None, None], yes, no)

    result = pick("Color", ops.blend(_gray(images), images, factor), tuned)
    result = pick("Sharpness", _sharpness(images, factor), result)
    return materialize(pick("Cutout", _cutout(images, centre, value), result))


def _matrix(is_op: dict[str, jax.Array], shape: tuple[int, ...], value: jax.Array) -> jax.Array:
    batch, height, width, _ = shape
    candidates = {
        "Rotate": ops.rotation(value, height, width),
        "ShearX": ops.affine(batch, xy=value),
        "ShearY": ops.affine(batch, yx=value),
        "TranslateX": ops.affine(batch, x0=value),
        "TranslateY": ops.affine(batch, y0=value),
    }
    matrix = ops.affine(batch)
    for name, candidate in candidates.items():
        matrix = jnp.where(is_op[name][:, None, None], candidate, matrix)
    return matrix


def _table(is_op: dict[str, jax.Array], images: jax.Array, value: jax.Array) -> jax.Array:
    """The tone curves (B, 256, 3); the identity where another kind of operation was drawn."""
    batch, height, width, _ = images.shape
    values = jnp.arange(ops.LEVELS)[None]
    factor = value[:, None]
    whole = factor.astype(jnp.int32)
    # Bits above 8 leave the top bit only.
    shift = jnp.where(whole <= 8, 8 - whole, 7)
    gray = min(height * width / 256, 255.0)
    curves = {
        "Invert": 255 - values,
        "Posterize": (values >> shift) << shift,
        "Solarize": jnp.where(values < whole, values, 255 - values),
        "SolarizeAdd": jnp.where(values < 128, jnp.clip(values + whole, 0, 255), values),
        "Contrast": ops.blend(jnp.trunc(jnp.full((1, ops.LEVELS), gray)), values, factor),
        "Brightness": ops.blend(jnp.zeros((1, ops.LEVELS)), values, factor),
    }
    table = jnp.broadcast_to(values.astype(jnp.uint8)[..., None], (batch, ops.LEVELS, images.shape[-1]))
    for name, curve in curves.items():
        table = jnp.where(is_op[name][:, None, None], curve.astype(jnp.uint8)[..., None], table)
    table = jnp.where(is_op["AutoContrast"][:, None, None], autocontrast_table(images), table)
    return jnp.where(is_op["Equalize"][:, None, None], equalize_table(ops.histogram(images)), table)


def autocontrast_table(images: jax.Array) -> jax.Array:
    """Curves (B, 256, C) that stretch each channel from its darkest and lightest level to 0 and 255."""
    low = images.min((1, 2)).astype(jnp.float32)[:, None]
    high = images.max((1, 2)).astype(jnp.float32)[:, None]
    values = jnp.arange(ops.LEVELS, dtype=jnp.float32)[None, :, None]
    scale = 255.0 / jnp.maximum(high - low, 1.0)
    return jnp.where(high > low, ops.to_uint8(values * scale - low * scale), values.astype(jnp.uint8))


def equalize_table(counts: jax.Array) -> jax.Array:
    """``(cumulative + step / 2) / step`` with ``step`` = pixels without the last occupied level, over 255."""
    total = counts.sum(1, keepdims=True)
    last = jnp.where(counts > 0, jnp.arange(ops.LEVELS)[None, :, None], 0).max(1, keepdims=True)
    step = (total - jnp.take_along_axis(counts, last, 1)) // 255
    cumulative = jnp.cumsum(counts, 1) - counts  # of the levels below: the reference shifts its table by one
    table = jnp.clip((cumulative + step // 2) // jnp.maximum(step, 1), 0, 255).at[:, 0].set(0)
    identity = jnp.arange(ops.LEVELS)[None, :, None]
    return jnp.where(step > 0, table, identity).astype(jnp.uint8)


def _gray(images: jax.Array) -> jax.Array:
    """``tf.image.rgb_to_grayscale`` of uint8: weighted in [0, 1], times 255.5, truncated."""
    weights = jnp.array([0.2989, 0.5870, 0.1140], jnp.float32)
    gray = jnp.sum(images.astype(jnp.float32) / 255.0 * weights, -1, keepdims=True)
    return jnp.trunc(gray * 255.5)


def _sharpness(images: jax.Array, factor: jax.Array) -> jax.Array:
    """Blend with a 3x3 smoothing (centre 5, others 1, over 13); the one-pixel border stays."""
    height, width = images.shape[1:3]
    around = sum(images[:, i : height - 2 + i, j : width - 2 + j].astype(jnp.int32) for i in range(3) for j in range(3))
    # Truncated, as the reference does; exact in integers, where its float sum is a rounding error off now and then.
    smooth = (around + 4 * images[:, 1:-1, 1:-1].astype(jnp.int32)) // 13
    degenerate = images.at[:, 1:-1, 1:-1].set(smooth.astype(jnp.uint8))
    return ops.blend(degenerate, images, factor)


def _cutout(images: jax.Array, centre: jax.Array, half: jax.Array) -> jax.Array:
    height, width = images.shape[1:3]
    half = half[:, None]
    cy = jnp.floor(centre[:, 0] * height)[:, None]
    cx = jnp.floor(centre[:, 1] * width)[:, None]
    rows, columns = jnp.arange(height)[None], jnp.arange(width)[None]
    in_rows = (rows >= cy - half) & (rows < cy + half)
    in_columns = (columns >= cx - half) & (columns < cx + half)
    return jnp.where((in_rows[:, :, None] & in_columns[:, None])[..., None], jnp.uint8(FILL), images)
