"""The type of a stage of the augmentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of the augmentation of a batch.

    Attributes:
      uniforms: how many random numbers from [0, 1) each image needs.
      apply: ``apply(images, uniforms)``, of images (B, H, W, 3) and uniforms float32 (B, ``uniforms``); returns images
        of the same shape. Images are uint8 before they are normalised, and normalised values after that. An image
        must depend on its own pixels and uniforms alone.
    """

    uniforms: int
    apply: Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class NetworkInput:
    """What the network expects of its images.

    Attributes:
      mean, std: of each channel, for pixels in [0, 1].
      dtype: of the normalised images.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: Any
