"""From image files to a network's input, exactly as timm evaluates its weights; and ImageNet's class names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxvision.augment import make_normalise
from jaxvision.data import decode
from jaxvision.data.classes import imagenet_classes as imagenet_classes
from jaxvision.data.image_files import read_image_file
from jaxvision.data.resizing import PIL_FILTERS
from jaxvision.errors import UserError, counted
from jaxvision.model import Model
from jaxvision.models.registry import ModelSpec

Picture = str | Path | bytes | Image.Image | np.ndarray
"""A file, a file's bytes, a Pillow image of any mode, or RGB pixels, uint8 (H, W, 3), as an array of any library."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Evaluation preprocessing: the same pixels as timm's.

    Attributes:
      size: pixels of a side of the network's input.
      crop_pct, crop_mode, interpolation: see :func:`jaxvision.data.decode.eval_image`.
      mean, std: of red, green and blue in [0, 1], for the normalisation.
      dct_method: of JPEGs; see :func:`jaxvision.data.decode.decode`.
    """

    size: int
    crop_pct: float
    crop_mode: str
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dct_method: str = "accurate"

    @property
    def transform(self) -> decode.Transform:
        """From a decoded image to a uint8 row of a batch; for :class:`jaxvision.data.loader.Loader`."""
        return decode.eval_transform(
            size=self.size, crop_pct=self.crop_pct, interpolation=self.interpolation, crop_mode=self.crop_mode
        )

    def __call__(self, pictures: Picture | Iterable[Picture]) -> jax.Array:
        """A network's input, float32 (N, size, size, 3), of one picture or several of any sizes and kinds.

        Raises:
          UserError: every picture that cannot be read, in one message.
        """
        if hasattr(pictures, "__array__") and not isinstance(pictures, Image.Image):
            pictures = np.asarray(pictures)  # of JAX or torch, too
        if isinstance(pictures, Picture) and getattr(pictures, "ndim", 3) != 4:
            pictures = [pictures]
        if not isinstance(pictures, Iterable) or hasattr(pictures, "read"):
            kind = type(pictures).__name__
            raise UserError(f"expected a path, bytes, a Pillow image, pixels, or several of these, got {kind}")
        several = list(pictures)
        batch = np.empty((len(several), self.size, self.size, 3), np.uint8)
        problems = []
        for i, picture in enumerate(several):
            try:
                batch[i] = self.load(picture)
            except (OSError, ValueError) as error:
                name = f"{picture}" if isinstance(picture, str | Path) else f"picture {i}"
                problems.append(f"{name}: {error}")
        if problems:
            raise UserError(f"{len(problems)} of {len(several)} pictures cannot be read: {'; '.join(problems)}")
        return self.normalise(batch)

    def _pixels(self, picture: Picture) -> np.ndarray:
        if isinstance(picture, str | Path):
            picture = read_image_file(picture)
        if isinstance(picture, bytes):
            return decode.decode(picture, dct_method=self.dct_method)
        if isinstance(picture, Image.Image):
            decode.check_size(*picture.size)  # the pixels of a file are only now read
            return np.asarray(picture.convert("RGB"))
        pixels = np.asarray(picture)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] != 3:
            raise ValueError(f"expected RGB pixels, uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
        decode.check_size(pixels.shape[1], pixels.shape[0])
        return pixels

    def load(self, picture: Picture) -> np.ndarray:
        """Reads one picture to uint8 (size, size, 3).

        Raises:
          OSError, ValueError: it cannot be read, decoded or resized.
        """
        out, pixels = np.empty((self.size, self.size, 3), np.uint8), self._pixels(picture)
        try:
            self.transform(pixels, None, out)
        except Exception as error:  # OpenCV and Pillow have errors of their own
            raise ValueError(f"{pixels.shape[1]} x {pixels.shape[0]} pixels cannot be resized: {error}") from error
        return out

    def normalise(self, images: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
        """uint8 images (N, size, size, 3) to the network's input of the same shape, in ``dtype``."""
        return make_normalise(mean=self.mean, std=self.std, dtype=dtype)(images)

    @property
    def resizing(self) -> str:
        """How a picture becomes an image of the network's size, in words."""
        resized, crop = int(self.size / self.crop_pct), f"(crop {self.crop_pct:g})"
        filter_name = f"({self.interpolation}{', Pillow' if self.interpolation in PIL_FILTERS else ''})"
        return {
            "center": f"short side to {resized} px {filter_name}, centre crop {self.size} px {crop}",
            "squash": f"both sides (squash) to {resized} px {filter_name}, centre crop {self.size} px {crop}",
            "crop_first": f"centre crop of the short side {crop}, resized to {self.size} px {filter_name}",
        }[self.crop_mode]

    def __str__(self) -> str:
        mean, std = (" ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"{self.resizing}, mean {mean}, std {std}"


def preprocessing(
    spec: ModelSpec, *, test_size: bool = False, size: int | None = None, crop_pct: float | None = None
) -> Preprocessing:
    """The evaluation preprocessing of published weights.

    Args:
      spec: of the weights.
      test_size: whether to use timm's larger test setting of these weights.
      size: pixels of a side, instead of the weights' own.
      crop_pct: share of the short side that is kept, instead of the weights' own.

    Raises:
      UserError: the weights have no test setting of their own, or both ``size`` and ``test_size`` are given.
    """
    own, own_crop = spec.input_size, spec.crop_pct
    if test_size:
        if size is not None:
            raise UserError("choose either the test size or another size")
        if spec.test_input_size is None and spec.test_crop_pct is None:
            raise UserError(f"{spec.name}.{spec.tag} has no other test setting than {spec.input_size} px")
        own, own_crop = spec.test_input_size or own, spec.test_crop_pct or own_crop
    return Preprocessing(size or own, crop_pct or own_crop, spec.crop_mode, spec.interpolation, spec.mean, spec.std)


def preprocess(model: Model) -> Preprocessing:
    """The evaluation preprocessing of the weights that a model is named after, at the model's own image size.

    Args:
      model: its name's tag, such as "fb_in1k" in "convnext_tiny.fb_in1k", selects the weights.

    Returns:
      A function of one picture or several, whose result the model takes; see :class:`Preprocessing`.

    Raises:
      UserError: this is no :class:`Model`, or it does not take square RGB images.

    Example::

      logits = model(jaxvision.preprocess(model)(["cat.jpg", "dog.png"]))
    """
    if not isinstance(model, Model):
        made = f"jaxvision.create_model({model!r}, ...)" if isinstance(model, str) else "jaxvision.create_model(...)"
        raise UserError(
            f"preprocess takes a Model, such as {made} returns, and not a {type(model).__name__}; then "
            "jaxvision.preprocess(model)(pictures) is the network's input"
        )
    height, width = model.image_size or (model.spec.input_size,) * 2
    if height != width or model.in_chans != 3:
        raise UserError(
            f"expected a model of square RGB images, got one of {height}x{width} with "
            f"{counted(model.in_chans, 'channel')}: resize and "
            "normalise its images by model.spec.mean and model.spec.std yourself"
        )
    return preprocessing(model.spec, size=height)
