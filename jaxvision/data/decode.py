"""From encoded bytes to a cropped and resized uint8 image.

JPEGs are decoded by simplejpeg with smooth upsampling, either with accurate DCT, bit-identical to Pillow, or with fast
DCT, bit-identical to TensorFlow's default; other formats by Pillow. Evaluation with Pillow's filters is bit-identical
to timm's preprocessing.
"""

from __future__ import annotations

import functools
import io
import math
import re
import threading
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxvision.data import resizing

try:
    import simplejpeg
except ImportError:  # Pillow alone works, at about 0.7 times the speed
    simplejpeg = None

Box = tuple[int, int, int, int]  # top, left, height, width
# transform(image, uniforms, out): uint8 (H, W, 3) to uint8 (size, size, 3) in out; uniforms are None in evaluation.
Transform = Callable[[np.ndarray, np.ndarray | None, np.ndarray], None]
UNIFORMS = 40  # random numbers of an image: four for each of the ten attempts at a crop
ATTEMPTS = 10
# Which filter "random" takes. Only the tenth attempt, which one image in millions reaches, has another use for it.
FILTER_UNIFORM = UNIFORMS - 1
CROPS = ("torch", "tf", "none")
DCT_METHODS = ("accurate", "fast")
# A function of the whole image and its own random numbers, before the crop; returns another image.
HostPolicy = Callable[[np.ndarray, np.ndarray], np.ndarray]
HOST_POLICIES = ("", "resnest")
CROP_MODES = ("center", "crop_first", "squash")
# Images of more pixels are refused before memory is taken for them. ImageNet's largest has 61 million (9331 x 6530),
# Danbooru's 102 million, a telephone's photo up to 108 million; as RGB the limit is 403 MB.
MOST_PIXELS = 2**27
# The same for the longer side over the shorter. Resized to a short side of 256 px for the evaluation, such an image is
# 51,200 px long; without a limit one of 1 x 5000 pixels becomes 1 GB.
MOST_ASPECT = 200
# What Pillow may open. Of its other formats EPS starts Ghostscript, some start other programs, and none are of photos.
_FORMATS = (
    "JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "DIB", "HEIF", "JPEG2000", "PCX", "QOI", "SGI", "TGA"
)  # fmt: skip
_STRIP = 2**22  # pixels; larger images are converted in strips, which saves a copy of the whole image
_KEPT = 2**27  # bytes; larger buffers are not kept for the next image


class Scratch(threading.local):
    """A decode buffer per thread. New memory for every image would take a quarter of the decode time."""

    def __init__(self) -> None:
        self.buffer = np.empty(0, np.uint8)

    def take(self, size: int) -> np.ndarray:
        """At least ``size`` bytes, which the next image of this thread overwrites."""
        if size > _KEPT:
            return np.empty(size, np.uint8)
        if self.buffer.size < size:
            self.buffer = np.empty(size, np.uint8)
        return self.buffer


def check_size(width: int, height: int) -> None:
    """Refuses an image that would need far more memory than any of a data set does.

    Raises:
      ValueError: it has more than :data:`MOST_PIXELS`, or is longer than :data:`MOST_ASPECT` times its shorter side.
    """
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"{width} x {height} pixels: at most {MOST_PIXELS / 1e6:.0f} million are read, make it smaller"
        )
    if max(width, height) > MOST_ASPECT * min(width, height):
        raise ValueError(
            f"{width} x {height} pixels: one side may be at most {MOST_ASPECT} times as long as the other, crop it"
        )


def decode(data: bytes | memoryview, scratch: Scratch | None = None, *, dct_method: str = "accurate") -> np.ndarray:
    """RGB uint8 (H, W, 3) of a JPEG, PNG or another raster format that Pillow reads.

    Args:
      data: the encoded image.
      scratch: if given, the result may be in its buffer, which is valid until this thread decodes again.
      dct_method: of JPEGs, "accurate" as Pillow or "fast" as TensorFlow by default; without simplejpeg always accurate.

    Raises:
      ValueError: the bytes are not a complete image, or one that :func:`check_size` refuses, before it is decoded.
    """
    if simplejpeg is not None and data[:2] == b"\xff\xd8":
        pixels = _decode_jpeg(data, scratch, fast=dct_method == "fast")
        if pixels is not None:
            return pixels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about unusual EXIF data and palettes; the pixels are right
        with _open(data) as image:
            check_size(*image.size)
            try:
                return _rgb(image)
            except Exception as error:
                raise ValueError(f"not a complete image: {error}") from error


def _decode_jpeg(data: bytes | memoryview, scratch: Scratch | None, *, fast: bool) -> np.ndarray | None:
    """The image, None where only Pillow may be able to read it."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if space not in ("YCbCr", "Gray"):  # CMYK and other rare color spaces: Pillow's conversion is the reference
        return None
    check_size(width, height)
    buffer = scratch.take(height * width * 3) if scratch else None
    try:
        return simplejpeg.decode_jpeg(data, "RGB", fastdct=fast, fastupsample=False, buffer=buffer)
    except ValueError:
        return None


def _open(data: bytes | memoryview) -> Image.Image:
    """The image with its header read, its pixels not yet."""
    if not len(data):
        raise ValueError("an empty file is no image")
    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError as error:
        raise ValueError("not an image of a format that is read") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit is higher
        pixels = "".join(re.findall(r"\((\d+ pixels)\)", str(error))) or "too many pixels"
        raise ValueError(f"{pixels}: at most {MOST_PIXELS / 1e6:.0f} million are read, make it smaller") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, ... for bad files
        raise ValueError(f"not a complete image: {error}") from error


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)  # what this Pillow was built with


def _rgb(image: Image.Image) -> np.ndarray:
    width, height = image.size
    if width * height <= _STRIP:
        return np.asarray(image.convert("RGB"))
    pixels, rows = np.empty((height, width, 3), np.uint8), max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = np.asarray(strip.convert("RGB"))
    return pixels


def torch_crop(
    uniforms: np.ndarray, height: int, width: int, area: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """A crop from torchvision's distribution (``RandomResizedCrop``).

    The area is uniform and the logarithm of the aspect ratio is uniform. After ten attempts that do not fit into the
    image, the largest central crop with an allowed aspect ratio is taken.

    Args:
      uniforms: (40,) in [0, 1), four for each attempt.
      height, width: of the image.
      area: smallest and largest share of the image.
      ratio: smallest and largest width over height.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(ATTEMPTS):
        u = uniforms[4 * attempt : 4 * attempt + 4]
        target = height * width * (area[0] + (area[1] - area[0]) * u[0])
        aspect = math.exp(low + (high - low) * u[1])
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(u[2] * (height - h + 1)), int(u[3] * (width - w + 1)), h, w
    in_ratio = width / height
    if in_ratio < ratio[0]:
        w, h = width, min(height, round(width / ratio[0]))
    elif in_ratio > ratio[1]:
        w, h = min(width, round(height * ratio[1])), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


def tf_crop(
    uniforms: np.ndarray,
    height: int,
    width: int,
    area: tuple[float, float],
    ratio: tuple[float, float],
    min_object_covered: float = 0.1,
) -> Box | None:
    """A crop from TensorFlow's distribution (``sample_distorted_bounding_box`` with the whole image as the object).

    The height, not the area, is uniform, between those of the smallest and the largest allowed area. So crops are
    smaller than torchvision's.
    Source: tensorflow/core/kernels/image/sample_distorted_bounding_box_op.cc.

    Args:
      uniforms, height, width, area, ratio: as in :func:`torch_crop`.
      min_object_covered: crops that cover a smaller share of the image are drawn again.

    Returns:
      The crop, or None after ten failed attempts; the recipes then use the evaluation crop.
    """
    smallest, largest = area[0] * height * width, area[1] * height * width
    for attempt in range(ATTEMPTS):
        u = uniforms[4 * attempt : 4 * attempt + 4]
        aspect = ratio[0] + (ratio[1] - ratio[0]) * u[0]
        h = round(math.sqrt(smallest / aspect))
        h_max = round(math.sqrt(largest / aspect))
        if round(h_max * aspect) > width:
            h_max = int((width + 0.5 - 1e-7) / aspect)
            if round(h_max * aspect) > width:
                h_max -= 1
        h_max = min(h_max, height)
        h = min(h, h_max)
        h += int(u[1] * (h_max - h + 1)) if h < h_max else 0
        w = round(h * aspect)
        if w * h < smallest:
            h += 1
            w = round(h * aspect)
        if w * h > largest:
            h -= 1
            w = round(h * aspect)
        if not (smallest <= w * h <= largest and 0 < w <= width and 0 < h <= height):
            continue
        if w * h < min_object_covered * height * width:
            continue
        return int(u[2] * (height - h)), int(u[3] * (width - w)), h, w
    return None


def center_box(height: int, width: int, crop_pct: float) -> Box:
    """The central square of TensorFlow's evaluation, ``crop_pct`` of the short side, cropped before the resize."""
    side = max(1, int(crop_pct * min(height, width)))
    return (height - side + 1) // 2, (width - side + 1) // 2, side, side


def eval_image(
    image: np.ndarray, size: int, crop_pct: float, interpolation: str, crop_mode: str = "center"
) -> np.ndarray:
    """Evaluation preprocessing: timm's, bit for bit, with one of Pillow's filters and "center" or "squash".

    Args:
      image: uint8 (H, W, 3).
      size: side of the result, in pixels.
      crop_pct: share of the resized side that is kept.
      interpolation: one of :data:`resizing.EVAL_RESIZES`.
      crop_mode: "center": the short side is resized to ``size / crop_pct`` and the aspect ratio kept, then the centre
        is cropped; "crop_first": the same in the other order, as in TensorFlow's code; "squash": both sides are resized
        to ``size / crop_pct``, then the centre is cropped.

    Returns:
      uint8 (size, size, 3).
    """
    height, width = image.shape[:2]
    if crop_mode == "crop_first":
        return resizing.resize(_cut(image, center_box(height, width, crop_pct)), size, size, interpolation)
    short = math.floor(size / crop_pct)
    new = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    if crop_mode == "squash":
        new = (short, short)
    if new != (width, height):
        image = resizing.resize(image, new[1], new[0], interpolation)
        height, width = image.shape[:2]
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return image[top : top + size, left : left + size]


def _cut(image: np.ndarray, box: Box) -> np.ndarray:
    top, left, height, width = box
    return image[top : top + height, left : left + width]


def train_transform(
    *,
    size: int,
    crop: str,
    area: tuple[float, float],
    ratio: tuple[float, float],
    resize: str,
    crop_pct: float,
    interpolation: str,
    crop_mode: str = "center",
    min_object_covered: float = 0.1,
    policy: HostPolicy | None = None,
) -> Transform:
    """The training transform: draws a crop, resizes it and writes it into a row of the batch.

    Args:
      size: side of the result, in pixels.
      crop: "torch" for :func:`torch_crop`, "tf" for :func:`tf_crop`, "none" for the whole image, squashed to a square.
      area, ratio: of the crop.
      resize: one of :data:`resizing.RESIZES`; "random" is one of :data:`resizing.RANDOM_FILTERS` for each image.
      crop_pct, interpolation, crop_mode: of :func:`eval_image`, which "tf" uses where no crop is found.
      min_object_covered: of :func:`tf_crop`.
      policy: applied to the whole image first; its random numbers follow those of the crop.
    """

    def transform(image: np.ndarray, uniforms: np.ndarray | None, out: np.ndarray) -> None:
        assert uniforms is not None
        if policy is not None:
            image = policy(image, uniforms[UNIFORMS:])
        height, width = image.shape[:2]
        box: Box | None = (0, 0, height, width)
        if crop == "torch":
            box = torch_crop(uniforms, height, width, area, ratio)
        elif crop == "tf":
            box = tf_crop(uniforms, height, width, area, ratio, min_object_covered)
        if box is None:
            out[:] = eval_image(image, size, crop_pct, interpolation, crop_mode)
            return
        mode = resize
        if mode == "random":
            mode = resizing.RANDOM_FILTERS[int(uniforms[FILTER_UNIFORM] * len(resizing.RANDOM_FILTERS))]
        resizing.resize(_cut(image, box), size, size, mode, out=out, truncate=True)

    return transform


def eval_transform(*, size: int, crop_pct: float, interpolation: str, crop_mode: str = "center") -> Transform:
    """The evaluation transform; see :func:`eval_image`."""

    def transform(image: np.ndarray, uniforms: np.ndarray | None, out: np.ndarray) -> None:
        out[:] = eval_image(image, size, crop_pct, interpolation, crop_mode)

    return transform
