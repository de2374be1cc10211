"""What recipes do to colors besides a policy: jitter, PCA lighting, and DeiT-III's 3-Augment with its blur."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from jaxvision.augment import ops, pil
from jaxvision.augment.policies import Transform
from jaxvision.ops.materialize import materialize

JITTER_UNIFORMS = 4  # order, brightness, contrast, saturation
LIGHTING_UNIFORMS = 3
BLUR_RADII = (0.1, 2.0)
# Principal components of ImageNet's colors (Krizhevsky et al. 2012), of pixels in [0, 1].
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def color_jitter(images: jax.Array, uniforms: jax.Array, strength: float) -> jax.Array:
    """Brightness, contrast and saturation by factors from ``[max(0, 1 - s), 1 + s]``, in random order.

    Args:
      images: uint8 (B, H, W, 3).
      uniforms: (B, 4) in [0, 1).
      strength: s; timm's ``--color-jitter``, torchvision's ``ColorJitter(s, s, s)``.
    """
    orders = np.array(list(itertools.permutations(range(3))))
    order = jnp.asarray(orders)[(uniforms[:, 0] * len(orders)).astype(jnp.int32)]
    low, high = max(0.0, 1.0 - strength), 1.0 + strength
    factors = low + (high - low) * uniforms[:, 1:4]
    for place in range(3):
        kind = order[:, place]
        factor = jnp.take_along_axis(factors, kind[:, None], 1)[:, 0]
        luma = pil.luma(images)
        degenerate = jnp.where((kind == 1)[:, None, None], pil.mean_luma(luma)[:, None, None], luma)
        degenerate = jnp.where((kind == 0)[:, None, None], 0, degenerate)
        images = materialize(ops.blend(degenerate[..., None], images, factor[:, None, None, None]))
    return images


def lighting(uniforms: jax.Array, strength: float) -> jax.Array:
    """AlexNet's color noise: what to add to pixels in [0, 1], (B, 1, 1, 3), from uniforms (B, 3).

    Each of the three components gets a normal multiple of its eigenvalue with this standard deviation.
    """
    alpha = strength * ndtri(jnp.clip(uniforms, 1e-7, 1 - 1e-7))
    return ((alpha * jnp.array(EIGENVALUES)) @ jnp.array(EIGENVECTORS).T)[:, None, None]


def three_augment() -> Transform:
    """3-Augment (Touvron et al. 2022, arXiv 2204.07118; timm ``3a``): greyscale, solarize at 128, or Gaussian blur.

    One of them for every image; the blur's radius is uniform from 0.1 to 2.
    """
    gray, solarize = pil.KINDS.index("Color"), pil.KINDS.index("Solarize")

    def apply(images: jax.Array, uniforms: jax.Array) -> jax.Array:
        choice = (uniforms[:, 0] * 3).astype(jnp.int32)
        kind = jnp.array([gray, solarize, 0])[choice]
        toned = pil.tone(images, kind, jnp.array([0.0, 128.0, 0.0])[choice])
        radius = BLUR_RADII[0] + (BLUR_RADII[1] - BLUR_RADII[0]) * uniforms[:, 1]
        return jnp.where((choice == 2)[:, None, None, None], gaussian_blur(images, radius), toned)

    return Transform(2, apply)


def gaussian_blur(images: jax.Array, radius: jax.Array) -> jax.Array:
    """Pillow's ``GaussianBlur``: three box blurs each way with fractional ends, in its 24-bit fixed point.

    Args:
      images: uint8 (B, H, W, C).
      radius: float (B,), the standard deviation in pixels, at most 2.
    """
    # Box of the same variance (Gwosdek et al. 2011): whole part and fraction of its half side.
    variance = jnp.asarray(radius, jnp.float32) ** 2 / 3
    whole = jnp.floor((jnp.sqrt(12 * variance + 1) - 1) / 2)
    fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    side = whole.astype(jnp.int32)
    # In whole numbers as Pillow: 2^24 are one; the ends get what the full taps leave.
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
