"""The augmentation of a training batch: one ordered list of stages, and the program that runs it on the device.

A stage is a function in :data:`STAGES`. It reads its fields of :class:`AugmentConfig` and returns a :class:`Stage`, or
None where the config does not ask for it. ``docs/extending.md`` shows how to add one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.augment import color, image_ops, tensorflow_policies
from jaxvision.augment.config import AugmentConfig
from jaxvision.augment.erasing import random_erasing
from jaxvision.augment.mix import Mix
from jaxvision.augment.policies import make_policy
from jaxvision.augment.stage import NetworkInput, Stage

MakeStage = Callable[[AugmentConfig, NetworkInput], Stage | None]


def flip(config: AugmentConfig, network: NetworkInput) -> Stage:
    """Mirrors half of the images."""
    # It uses up its number also where it is off, so that ``flip=False`` leaves the numbers of the other stages.
    return Stage(1, lambda images, u: image_ops.flip(images, u[:, 0] < 0.5) if config.flip else images)


def tensorflow_randaugment(config: AugmentConfig, network: NetworkInput) -> Stage | None:
    """RandAugment as TensorFlow computes it; see :func:`tensorflow_policies.randaugment`."""
    if not config.randaugment_layers:
        return None
    return tensorflow_policies.randaugment(
        config.randaugment_layers,
        config.randaugment_magnitude,
        translate_const=config.translate_const,
        cutout_const=config.cutout_const,
    )


def policy(config: AugmentConfig, network: NetworkInput) -> Stage | None:
    """The policy that the config names, one of :data:`policies.POLICIES`."""
    if not config.policy:
        return None
    return make_policy(config.policy, mean=network.mean, interpolation=config.interpolation)


def color_jitter(config: AugmentConfig, network: NetworkInput) -> Stage | None:
    """Brightness, contrast and saturation; see :func:`color.color_jitter`."""
    if not config.color_jitter:
        return None

    def apply(images: jax.Array, uniforms: jax.Array) -> jax.Array:
        return color.color_jitter(images, uniforms, config.color_jitter, mxnet_saturation=config.mxnet_saturation)

    return Stage(color.JITTER_UNIFORMS, apply)


def lighting(config: AugmentConfig, network: NetworkInput) -> Stage | None:
    """AlexNet's color noise; see :func:`color.lighting`."""
    if not config.lighting:
        return None
    return Stage(color.LIGHTING_UNIFORMS, lambda images, uniforms: color.lighting(images, uniforms, config.lighting))


def normalise(config: AugmentConfig, network: NetworkInput) -> Stage:
    """uint8 pixels to normalised values."""
    return Stage(0, lambda images, _: image_ops.normalise(images, network.mean, network.std, network.dtype))


STAGES: list[MakeStage] = [flip, tensorflow_randaugment, policy, color_jitter, lighting, normalise]
"""The stages in the order in which they are applied; a new one is added here."""

# These split one array of uniforms: each separate draw costs 0.1 to 0.3 s of compilation. Every other stage draws its
# own, so a new stage leaves the numbers of these as they are.
DRAWN_TOGETHER = (flip, tensorflow_randaugment, policy, color_jitter, lighting, normalise)
ERASING = 1  # folded into the key of a step for random erasing


def make_augment(
    config: AugmentConfig, *, seed: int, mean: tuple[float, ...], std: tuple[float, ...], dtype: Any
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """``augment(images, step)``: the stages of :data:`STAGES`, then random erasing.

    The random numbers of an image depend on the seed, the step and its place in the global batch. So they are the same
    on any number of devices and after any restart.

    The program is separate from the train step on purpose: compiled together, XLA on a CPU computes all stages twice
    where Mixup or CutMix needs the batch and its reverse (18 instead of 7.7 ms per image, measured).

    Args:
      config: what to apply.
      seed: of all random numbers.
      mean, std: of each channel, for pixels in [0, 1].
      dtype: of the result.

    Returns:
      A function of images uint8 (B, H, W, 3) and an int step; returns normalised images of ``dtype``.

    Raises:
      UserError: the config names an unknown policy.
      ValueError: two stages have the same name.
    """
    network = NetworkInput(tuple(mean), tuple(std), dtype)
    names = [make.__name__ for make in STAGES]
    if len(set(names)) < len(names):
        raise ValueError(f"stages need names of their own, because each name selects random numbers: {names}")
    stages = {make: stage for make in STAGES if (stage := make(config, network))}

    def augment(images: jax.Array, step: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 0)
        uniforms = _draw(key, stages, images.shape[0])
        for make, stage in stages.items():
            images = stage.apply(images, uniforms[make])
        if not config.erase_prob:
            return images
        # Not a stage: it needs one random number for each pixel, not a few for each image.
        return random_erasing(
            jax.random.fold_in(key, ERASING),
            images,
            prob=config.erase_prob,
            area=config.erase_area,
            aspect=config.erase_aspect,
            fill=config.erase_fill,
            max_count=config.erase_max_count,
        )

    return augment


def _draw(key: jax.Array, stages: dict[MakeStage, Stage], batch: int) -> dict[MakeStage, jax.Array]:
    """Uniforms (batch, n) of each stage."""
    counts = [stages[make].uniforms if make in stages else 0 for make in DRAWN_TOGETHER]
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    pieces = jnp.split(jax.random.uniform(key, (batch, ends[-1])), ends[:-1], 1)
    uniforms = dict(zip(DRAWN_TOGETHER, pieces, strict=True))
    for make, stage in stages.items():
        if make not in uniforms:
            own = jax.random.fold_in(key, zlib.crc32(make.__name__.encode()))
            uniforms[make] = jax.random.uniform(own, (batch, stage.uniforms))
    return uniforms


def make_normalise(
    *, mean: tuple[float, ...], std: tuple[float, ...], dtype: Any = jnp.float32
) -> Callable[[jax.Array], jax.Array]:
    """``normalise(images)`` for evaluation: uint8 (B, H, W, 3) to ``(images / 255 - mean) / std`` of ``dtype``."""
    return lambda images: image_ops.normalise(images, mean, std, dtype)


def make_mix(config: AugmentConfig, *, groups: int) -> Mix:
    """Mixup and CutMix of a config; false where it has neither.

    Args:
      config: what to apply.
      groups: with ``config.mix_groups`` "per_device", the batch is mixed in this many groups.
    """
    return Mix(
        mixup=config.mixup,
        cutmix=config.cutmix,
        prob=config.mix_prob,
        switch=config.mix_switch,
        pairing=config.mix_pairing,
        per_example=config.mix_per_example,
        symmetric=config.mix_symmetric,
        halves=config.mix_halves,
        groups=groups if config.mix_groups == "per_device" else 1,
    )
