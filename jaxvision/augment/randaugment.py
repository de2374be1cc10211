"""RandAugment (Cubuk et al. 2019, arXiv 1909.13719) as TensorFlow's code computes it.

Source of the semantics: tensorflow/tpu ``models/official/efficientnet/autoaugment.py``,
which ResNet-RS uses. Facts that an obvious reimplementation gets wrong, and that are
reproduced here: magnitudes are divided by 10 and *not* clamped; the solarize threshold
wraps modulo 256 (M = 10 inverts); contrast blends with pixel count / 256 instead of the
mean; every drawn operation is applied; fill is grey 128 and geometry is nearest.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.augment import ops

TF_OPS = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast", "Brightness",
    "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Cutout", "SolarizeAdd",
)  # fmt: skip
FILL = 128
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

    def apply(images: jax.Array, uniforms: jax.Array) -> jax.Array:
        for layer in range(layers):
            u = uniforms[:, layer * UNIFORMS : (layer + 1) * UNIFORMS]
            index = (u[:, 0] * len(TF_OPS)).astype(jnp.int32)
            sign = jnp.where(u[:, 1] < 0.5, -1.0, 1.0)
            images = tf_apply(
                images, index, sign, u[:, 2:4], magnitude, translate_const=translate_const, cutout_const=cutout_const
            )
        return images

    return apply


def tf_apply(
    images: jax.Array,
    index: jax.Array,
    sign: jax.Array,
    centre: jax.Array,
    magnitude: float,
    *,
    translate_const: float,
    cutout_const: float,
) -> jax.Array:
    """One operation per image: ``TF_OPS[index]`` at ``magnitude``.

    Args:
      images: uint8 (B, H, W, 3).
      index: int32 (B,).
      sign: +-1 (B,), of rotations, shears and translations.
      centre: uniforms (B, 2), of the cutout square's centre.
      magnitude, translate_const, cutout_const: as in :func:`tf_randaugment`.
    """
    is_op = {name: index == i for i, name in enumerate(TF_OPS)}
    level = magnitude / 10.0
    images = ops.warp_nearest(images, _matrix(is_op, images.shape, sign, level, translate_const), FILL)
    tuned = ops.look_up(images, _table(is_op, images, level))
    factor = level * 1.8 + 0.1

    def pick(name: str, yes: jax.Array, no: jax.Array) -> jax.Array:
        return jnp.where(is_op[name][:, None, None, None], yes, no)

    result = pick("Color", ops.blend(_grey(images), images, factor), tuned)
    result = pick("Sharpness", _sharpness(images, factor), result)
    return pick("Cutout", _cutout(images, centre, int(level * cutout_const)), result)


def _matrix(
    is_op: dict[str, jax.Array], shape: tuple[int, ...], sign: jax.Array, level: float, translate_const: float
) -> jax.Array:
    batch, height, width, _ = shape
    shear, pixels = sign * level * 0.3, sign * level * translate_const
    candidates = {
        "Rotate": ops.rotation(sign * np.float32(np.deg2rad(level * 30.0)), height, width),
        "ShearX": ops.affine(batch, xy=shear),
        "ShearY": ops.affine(batch, yx=shear),
        "TranslateX": ops.affine(batch, x0=pixels),
        "TranslateY": ops.affine(batch, y0=pixels),
    }
    matrix = ops.affine(batch)
    for name, candidate in candidates.items():
        matrix = jnp.where(is_op[name][:, None, None], candidate, matrix)
    return matrix


def _table(is_op: dict[str, jax.Array], images: jax.Array, level: float) -> jax.Array:
    """The tone curves (B, 256, 3); the identity where another kind of operation was drawn."""
    batch, height, width, _ = images.shape
    values = jnp.arange(ops.LEVELS)
    # The threshold is cast to uint8 in the reference, so it wraps; bits above 8 leave the top bit only.
    threshold, addition, bits = int(level * 256) % 256, int(level * 110), int(level * 4)
    shift = 8 - bits if bits <= 8 else 7
    factor = level * 1.8 + 0.1
    grey = min(height * width / 256, 255.0)
    curves = {
        "Invert": 255 - values,
        "Posterize": (values >> shift) << shift,
        "Solarize": jnp.where(values < threshold, values, 255 - values),
        "SolarizeAdd": jnp.where(values < 128, jnp.clip(values + addition, 0, 255), values),
        "Contrast": ops.blend(jnp.trunc(jnp.full(ops.LEVELS, grey)), values, factor),
        "Brightness": ops.blend(jnp.zeros(ops.LEVELS), values, factor),
    }
    table = jnp.broadcast_to(values.astype(jnp.uint8)[None, :, None], (batch, ops.LEVELS, images.shape[-1]))
    for name, curve in curves.items():
        table = jnp.where(is_op[name][:, None, None], curve.astype(jnp.uint8)[None, :, None], table)
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


def _grey(images: jax.Array) -> jax.Array:
    """``tf.image.rgb_to_grayscale`` of uint8: weighted in [0, 1], times 255.5, truncated."""
    weights = jnp.array([0.2989, 0.5870, 0.1140], jnp.float32)
    grey = jnp.sum(images.astype(jnp.float32) / 255.0 * weights, -1, keepdims=True)
    return jnp.trunc(grey * 255.5)


def _sharpness(images: jax.Array, factor: float) -> jax.Array:
    """Blend with a 3x3 smoothing (centre 5, others 1, over 13); the one-pixel border stays."""
    height, width = images.shape[1:3]
    around = sum(images[:, i : height - 2 + i, j : width - 2 + j].astype(jnp.int32) for i in range(3) for j in range(3))
    # Truncated, as the reference does; exact in integers, where its float sum is a rounding error off now and then.
    smooth = (around + 4 * images[:, 1:-1, 1:-1].astype(jnp.int32)) // 13
    degenerate = images.at[:, 1:-1, 1:-1].set(smooth.astype(jnp.uint8))
    return ops.blend(degenerate, images, factor)


def _cutout(images: jax.Array, centre: jax.Array, half: int) -> jax.Array:
    height, width = images.shape[1:3]
    cy = jnp.floor(centre[:, 0] * height)[:, None]
    cx = jnp.floor(centre[:, 1] * width)[:, None]
    rows, columns = jnp.arange(height)[None], jnp.arange(width)[None]
    in_rows = (rows >= cy - half) & (rows < cy + half)
    in_columns = (columns >= cx - half) & (columns < cx + half)
    return jnp.where((in_rows[:, :, None] & in_columns[:, None])[..., None], jnp.uint8(FILL), images)
