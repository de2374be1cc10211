"""A model as one program that runs without this library: StableHLO, by ``jax.export``.

The program has the weights inside, with the batch normalisation folded. It is traced from the portable implementations
of :mod:`jaxvision.ops` alone: those of one backend may be calls into a library that other machines lack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError, require
from jaxvision.inference.compile import FusedModel
from jaxvision.ops.backend import as_xla_computes

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
BATCH = "batch"  # the name of the symbolic number of images


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageInput:
    """What an exported program takes.

    Attributes:
      size: (height, width) in pixels.
      channels: of an image.
      batch: number of images; None for any number.
      normalise: for a program that takes uint8 pixels: makes float images (N, H, W, C) of them. None for a program that
        takes normalised float32 images.
      channels_first: whether the program takes (N, C, H, W), as PyTorch's do.
    """

    size: tuple[int, int]
    channels: int = 3
    batch: int | None = None
    normalise: Callable[[jax.Array], jax.Array] | None = None
    channels_first: bool = False

    @property
    def shape(self) -> tuple[int | str, ...]:
        """The shape of the images, with :data:`BATCH` for a symbolic number of them."""
        return self.laid_out((self.batch or BATCH, *self.size, self.channels))

    @property
    def dtype(self) -> np.dtype:
        """Of the images."""
        return np.dtype(np.float32 if self.normalise is None else np.uint8)

    @property
    def layout(self) -> str:
        """``NHWC`` or ``NCHW``."""
        return "".join(self.laid_out(tuple("NHWC")))

    def laid_out(self, axes: tuple[Any, ...]) -> tuple[Any, ...]:
        """Something for each axis of (N, H, W, C), in the order that the program takes."""
        n, height, width, channels = axes
        return (n, channels, height, width) if self.channels_first else axes

    def random(self, count: int) -> np.ndarray:
        """``count`` random images that the program takes."""
        rng, shape = np.random.default_rng(0), self.laid_out((count, *self.size, self.channels))
        if self.dtype == np.uint8:
            return rng.integers(0, 256, shape, np.uint8)
        return rng.standard_normal(shape, np.float32)

    def prepared(self, images: jax.Array) -> jax.Array:
        """What the model takes, normalised float images (N, H, W, C), of what the program takes."""
        if self.channels_first:
            images = jnp.transpose(images, (0, 2, 3, 1))
        return images if self.normalise is None else self.normalise(images)


def inference_function(model: FusedModel, images: ImageInput) -> Callable[[jax.Array], jax.Array]:
    """From what the program takes to float32 logits (N, num_classes); not jitted, so that nothing traced is reused."""

    def logits(pixels: jax.Array) -> jax.Array:
        return model.module.apply(model.variables, images.prepared(pixels), train=False)

    return logits


def to_stablehlo(
    model: FusedModel, images: ImageInput, platforms: Sequence[str] = ("cpu", "cuda", "tpu")
) -> jax.export.Exported:
    """The model as a program that ``jax.export`` serialises.

    Args:
      model: fused, best; see :func:`jaxvision.fuse`.
      images: what the program takes.
      platforms: where it can run, of :data:`PLATFORMS`; this machine need not have them.

    Raises:
      UserError: no or unknown platforms, or the package that writes the format is missing.
    """
    require("export", "flatbuffers")  # jax.export needs it, and does not require it
    from jax import export

    if not platforms or not set(platforms) <= set(PLATFORMS):
        raise UserError(f"platforms {', '.join(platforms) or 'none'}: expected some of {', '.join(PLATFORMS)}")
    shape = export.symbolic_shape(", ".join(map(str, images.shape)))
    with as_xla_computes():
        function = jax.jit(inference_function(model, images))
        return export.export(function, platforms=tuple(platforms))(jax.ShapeDtypeStruct(shape, images.dtype))


def distance(program: Callable[[np.ndarray], Any], model: FusedModel, images: ImageInput) -> float:
    """How far a program's logits of random images are from the model's, as a share of the largest logit.

    Args:
      program: from what ``images`` describes, a numpy array, to logits. JAX runs it on the CPU.
      model: not fused, best, so that the folding of batch normalisation is compared, too.
      images: what the program takes.
    """
    pixels = images.random(images.batch or 2)
    with jax.default_device(jax.devices("cpu")[0]), as_xla_computes():
        expected = np.asarray(jax.jit(inference_function(model, images))(pixels))
        found = np.asarray(program(pixels))
    # A classifier that was not trained yet may be zero.
    return float(np.max(np.abs(found - expected)) / max(np.max(np.abs(expected)), np.finfo(np.float32).tiny))
