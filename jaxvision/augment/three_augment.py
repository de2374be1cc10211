"""DeiT-III's 3-Augment (Touvron et al. 2022, arXiv 2204.07118; timm ``3a``) with Pillow's Gaussian blur."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.augment import pillow_ops
from jaxvision.augment.stage import Stage
from jaxvision.ops.materialize import materialize

BLUR_RADII = (0.1, 2.0)


def three_augment() -> Stage:
    """A stage that makes each image gray, solarizes it at 128, or blurs it, with equal probability.

    The radius of the blur is uniform from 0.1 to 2 pixels.
    """
    gray, solarize = pillow_ops.KINDS.index("Color"), pillow_ops.KINDS.index("Solarize")

    def apply(images: jax.Array, uniforms: jax.Array) -> jax.Array:
        choice = (uniforms[:, 0] * 3).astype(jnp.int32)
        kind = jnp.array([gray, solarize, 0])[choice]
        toned = pillow_ops.tone(images, kind, jnp.array([0.0, 128.0, 0.0])[choice])
        radius = BLUR_RADII[0] + (BLUR_RADII[1] - BLUR_RADII[0]) * uniforms[:, 1]
        return jnp.where((choice == 2)[:, None, None, None], gaussian_blur(images, radius), toned)

    return Stage(2, apply)


def gaussian_blur(images: jax.Array, radius: jax.Array) -> jax.Array:
    """Pillow's ``GaussianBlur``: three box blurs in each direction with fractional ends, in 24-bit fixed point.

    Args:
      images: uint8 (B, H, W, C).
      radius: float (B,), the standard deviation in pixels, at most 2.

    Returns:
      uint8, like ``images``.
    """
    # A box of the same variance (Gwosdek et al. 2011): whole part and fraction of half its side.
    variance = jnp.asarray(radius, jnp.float32) ** 2 / 3
    whole = jnp.floor((jnp.sqrt(12 * variance + 1) - 1) / 2)
    fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    side = whole.astype(jnp.int32)
    # Integers as in Pillow, where 2^24 stands for 1. The two end taps share what the full taps leave.
    full = ((1 << 24) / (2 * (whole + fraction) + 1)).astype(jnp.uint32)
    end = ((1 << 24) - full * (2 * side.astype(jnp.uint32) + 1)) // 2
    weights = {0: full, 1: jnp.where(side >= 1, full, end), 2: jnp.where(side >= 1, end, 0)}

    def box(x: jax.Array, axis: int) -> jax.Array:
        pad = [(0, 0)] * 4
        pad[axis] = (2, 2)
        wide = jnp.pad(x, pad, mode="edge")
        total = jnp.full((1, 1, 1, 1), 1 << 23, jnp.uint32)
        for offset in range(-2, 3):
            part = jax.lax.slice_in_dim(wide, 2 + offset, 2 + offset + x.shape[axis], axis=axis)
            total = total + part.astype(jnp.uint32) * weights[abs(offset)][:, None, None, None]
        return (total >> 24).astype(jnp.uint8)

    for axis in (2, 2, 2, 1, 1, 1):
        images = materialize(box(images, axis))
    return images
