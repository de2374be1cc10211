"""Color jitter, and lighting: noise along the principal components of ImageNet's colors."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from jaxvision.augment import image_ops, pillow_ops
from jaxvision.ops.materialize import materialize

JITTER_UNIFORMS = 4  # per image: order, brightness, contrast, saturation
LIGHTING_UNIFORMS = 3
# Principal components of ImageNet's colors (Krizhevsky et al. 2012), for pixels in [0, 1].
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def color_jitter(
    images: jax.Array, uniforms: jax.Array, strength: float, *, mxnet_saturation: bool = False
) -> jax.Array:
    """Changes brightness, contrast and saturation by factors from ``[max(0, 1 - s), 1 + s]``, in random order.

    Args:
      images: uint8 (B, H, W, 3).
      uniforms: (B, 4) in [0, 1).
      strength: s, as in timm's ``--color-jitter s`` and torchvision's ``ColorJitter(s, s, s)``.
      mxnet_saturation: saturation blends with 0.114 of blue instead of the gray level, as the code of MXNet does, which
        overwrites the sum that it should add to. So there saturation is mostly a change of brightness. Source: MXNet
        src/operator/image/image_random-inl.h, ``AdjustSaturationImpl``.

    Returns:
      uint8, like ``images``.
    """
    orders = np.array(list(itertools.permutations(range(3))))
    order = jnp.asarray(orders)[(uniforms[:, 0] * len(orders)).astype(jnp.int32)]
    low, high = max(0.0, 1.0 - strength), 1.0 + strength
    factors = low + (high - low) * uniforms[:, 1:4]
    for place in range(3):
        kind = order[:, place]
        factor = jnp.take_along_axis(factors, kind[:, None], 1)[:, 0]
        luma = pillow_ops.luma(images)
        gray = 0.114 * images[..., 2].astype(jnp.float32) if mxnet_saturation else luma
        degenerate = jnp.where((kind == 1)[:, None, None], pillow_ops.mean_luma(luma)[:, None, None], gray)
        degenerate = jnp.where((kind == 0)[:, None, None], 0, degenerate)
        images = materialize(image_ops.blend(degenerate[..., None], images, factor[:, None, None, None]))
    return images


def lighting(images: jax.Array, uniforms: jax.Array, strength: float) -> jax.Array:
    """AlexNet's color noise: :func:`lighting_noise` added to uint8 (B, H, W, 3), clipped and truncated as in MXNet."""
    return image_ops.to_uint8(images.astype(jnp.float32) + 255 * lighting_noise(uniforms, strength))


def lighting_noise(uniforms: jax.Array, strength: float) -> jax.Array:
    """What AlexNet's color noise adds to pixels in [0, 1], float32 (B, 1, 1, 3).

    The noise is a sum of the three principal components. Each is multiplied by its eigenvalue and by a normal number
    whose standard deviation is ``strength``.

    Args:
      uniforms: (B, 3) in [0, 1).
      strength: standard deviation.
    """
    alpha = strength * ndtri(jnp.clip(uniforms, 1e-7, 1 - 1e-7))
    return ((alpha * jnp.array(EIGENVALUES)) @ jnp.array(EIGENVECTORS).T)[:, None, None]
