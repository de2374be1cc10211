"""Device side of the augmentation: one jitted program between the host batch and the train step.

It is kept apart from the step on purpose: fused with it, XLA on CPU computes the chain
twice where mixing needs the batch and its reverse (measured: 18 against 7.7 ms an image).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.augment import color, ops, randaugment
from jaxvision.augment.autoaugment import POLICIES, tf_autoaugment, timm_autoaugment
from jaxvision.augment.erasing import random_erasing
from jaxvision.augment.policies import Policy, Transform, timm_randaugment
from jaxvision.augment.torchvision_policies import (
    torchvision_autoaugment,
    torchvision_randaugment,
    trivialaugment_wide,
)


def make_augment(
    *,
    seed: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: Any,
    flip: bool = False,
    layers: int = 0,
    magnitude: float = 0.0,
    translate_const: float = 100.0,
    cutout_const: float = 40.0,
    policy: Policy | Transform | None = None,
    color_jitter: float = 0.0,
    lighting: float = 0.0,
    erase_prob: float = 0.0,
    erase_area: tuple[float, float] = (0.02, 1 / 3),
    erase_aspect: tuple[float, float] = (0.3, 1 / 0.3),
    erase_fill: str = "pixel",
    erase_max_count: int = 1,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """``augment(images, step)``: flip, policy, color jitter, normalise, lighting, erase.

    The draws of an image depend on the seed, the step and its place in the global
    batch, so they are the same on any number of devices and after any restart.

    Args:
      seed: of all draws.
      mean, std: normalisation for pixels in [0, 1].
      dtype: of the result.
      flip: mirror half of the images.
      layers, magnitude, translate_const, cutout_const: see :func:`randaugment.tf_randaugment`; 0 layers for none.
      policy: of :func:`make_policy`, behind it.
      color_jitter: see :func:`color.color_jitter`; 0 for none.
      lighting: standard deviation of :func:`color.lighting`; 0 for none.
      erase_prob, erase_area, erase_aspect, erase_fill, erase_max_count: see :func:`erasing.random_erasing`.

    Returns:
      A function of uint8 images (B, H, W, 3) and an int step to normalised images.
    """
    tf_policy = randaugment.tf_randaugment(
        layers, magnitude, translate_const=translate_const, cutout_const=cutout_const
    )

    def augment(images: jax.Array, step: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 0)
        # One draw of one block: each separate draw costs 0.1 to 0.3 s of compilation.
        counts = {
            "flip": 1,
            "tf": layers * randaugment.UNIFORMS,
            "policy": policy.uniforms if policy else 0,
            "jitter": color.JITTER_UNIFORMS if color_jitter else 0,
            "lighting": color.LIGHTING_UNIFORMS if lighting else 0,
        }
        ends = list(itertools.accumulate(counts.values()))
        drawn = jnp.split(jax.random.uniform(key, (images.shape[0], ends[-1])), ends[:-1], 1)
        u = dict(zip(counts, drawn, strict=True))
        if flip:
            images = ops.flip(images, u["flip"][:, 0] < 0.5)
        images = tf_policy(images, u["tf"])
        images = policy(images, u["policy"]) if policy else images
        images = color.color_jitter(images, u["jitter"], color_jitter) if color_jitter else images
        added = color.lighting(u["lighting"], lighting) if lighting else None
        images = ops.normalise(images, mean, std, dtype, added)
        if not erase_prob:
            return images
        return random_erasing(
            jax.random.fold_in(key, 1),
            images,
            prob=erase_prob,
            area=erase_area,
            aspect=erase_aspect,
            fill=erase_fill,
            max_count=erase_max_count,
        )

    return augment


def make_policy(text: str, *, mean: tuple[float, float, float], interpolation: str) -> Policy | Transform:
    """The policy that a config names.

    * "trivial", "tv-imagenet", "tv-ra-n2-m9": torchvision's TrivialAugmentWide, AutoAugment, RandAugment;
    * "original", "v0": AutoAugment as timm computes it; "tf-v0": as TensorFlow's EfficientNet code does;
    * "3a": 3-Augment;
    * "rand-m9-mstd0.5-inc1" and alike: timm's RandAugment.

    Raises:
      UserError: an unknown name.
    """
    if text in POLICIES:
        return timm_autoaugment(text, mean=mean, interpolation=interpolation)
    if text == "trivial":
        return trivialaugment_wide(interpolation=interpolation)
    if text == "tv-imagenet":
        return torchvision_autoaugment(interpolation=interpolation)
    if text.startswith("tv-ra"):
        return torchvision_randaugment(text, interpolation=interpolation)
    if text == "tf-v0":
        return tf_autoaugment()
    if text == "3a":
        return color.three_augment()
    return timm_randaugment(text, mean=mean, interpolation=interpolation)


def make_normalise(
    *, mean: tuple[float, ...], std: tuple[float, ...], dtype: Any = jnp.float32
) -> Callable[[jax.Array], jax.Array]:
    """``normalise(images)`` for evaluation: uint8 to ``(images / 255 - mean) / std``."""
    return lambda images: ops.normalise(images, mean, std, dtype)
