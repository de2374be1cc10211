"""From encoded bytes to a cropped and resized uint8 image.

JPEGs are decoded by simplejpeg with accurate DCT and smooth upsampling, which is bit-identical to Pillow, and other
formats by Pillow. Evaluation resizes with Pillow, so that it is bit-identical to timm's preprocessing.
"""

from __future__ import annotations

import io
import math
import threading
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

try:
    import simplejpeg
except ImportError:  # Pillow alone works, at about 0.7 times the speed
    simplejpeg = None
try:
    import cv2

    cv2.setNumThreads(0)  # the loader has its own threads
except ImportError:
    cv2 = None

Box = tuple[int, int, int, int]  # top, left, height, width
# transform(image, uniforms, out): uint8 (H, W, 3) to uint8 (size, size, 3) in out; uniforms are None in evaluation.
Transform = Callable[[np.ndarray, np.ndarray | None, np.ndarray], None]
UNIFORMS = 40  # random numbers of an image: four for each of the ten attempts at a crop
ATTEMPTS = 10
PIL_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
RESIZES = ("filter", "area", "antialias", "linear")
CROPS = ("torch", "tf", "none")


class Scratch(threading.local):
    """A decode buffer per thread. New memory for every image would take a quarter of the decode time."""

    def __init__(self) -> None:
        self.buffer = np.empty(0, np.uint8)

    def take(self, size: int) -> np.ndarray:
        """At least ``size`` bytes, which the next image of this thread overwrites."""
        if self.buffer.size < size:
            self.buffer = np.empty(size, np.uint8)
        return self.buffer


def decode(data: bytes | memoryview, scratch: Scratch | None = None) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a JPEG, PNG or any format Pillow reads.

    Args:
      data: the encoded image.
      scratch: if given, the result may be in its buffer, which is valid until this thread decodes again.

    Raises:
      ValueError: the bytes are not a complete image.
    """
    if simplejpeg is not None and data[:2] == b"\xff\xd8":
        try:
            # CMYK and other rare color spaces are left to Pillow, whose conversion is the reference.
            height, width, space, _ = simplejpeg.decode_jpeg_header(data)
            if space in ("YCbCr", "Gray"):
                buffer = scratch.take(height * width * 3) if scratch else None
                return simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, buffer=buffer)
        except ValueError:
            pass  # Pillow may be able to read it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about unusual EXIF data and palettes; the pixels are right
            with Image.open(io.BytesIO(data)) as image:
                return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError("not an image of any format that Pillow reads") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, ... for bad files
        raise ValueError(f"not a complete image: {error}") from error


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
    uniforms: np.ndarray, height: int, width: int, area: tuple[float, float], ratio: tuple[float, float]
) -> Box | None:
    """A crop from TensorFlow's distribution (``sample_distorted_bounding_box`` with the whole image as the object).

    The height, not the area, is uniform, between those of the smallest and the largest allowed area. So crops are
    smaller than torchvision's. At least 0.1 of the image is kept (``min_object_covered``).
    Source: tensorflow/core/kernels/image/sample_distorted_bounding_box_op.cc.

    Args:
      uniforms, height, width, area, ratio: as in :func:`torch_crop`.

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
        if w * h < 0.1 * height * width:
            continue
        return int(u[2] * (height - h)), int(u[3] * (width - w)), h, w
    return None


def resize_crop(image: np.ndarray, box: Box, size: int, mode: str, out: np.ndarray | None = None) -> np.ndarray:
    """Cuts out ``box`` and scales it to uint8 (size, size, 3), in ``out`` if that is given.

    Args:
      image: uint8 (H, W, 3).
      box: what to cut out.
      size: side of the result, in pixels.
      mode: one of :data:`RESIZES`. "filter": bilinear after a small low-pass filter with the variance of Pillow's
        antialiasing (2 to 2.5 times as fast as OpenCV's area interpolation, and closer to Pillow from a scale of 1.5
        on: docs/data.md). "area": OpenCV's average where it shrinks. "antialias": Pillow's bicubic. "linear": bilinear
        without antialiasing, TensorFlow's default.
      out: if given, where the result is written.
    """
    top, left, height, width = box
    crop = image[top : top + height, left : left + width]
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    if crop.shape[:2] == (size, size):
        out[:] = crop
    elif mode == "antialias" or cv2 is None:
        resample = Image.Resampling.BICUBIC if mode == "antialias" else Image.Resampling.BILINEAR
        out[:] = np.asarray(Image.fromarray(np.ascontiguousarray(crop)).resize((size, size), resample))
    else:
        if mode == "filter":
            crop = _low_pass(crop, size)
        shrinks = mode == "area" and height >= size and width >= size
        cv2.resize(crop, (size, size), dst=out, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return out


def _low_pass(image: np.ndarray, size: int) -> np.ndarray:
    """The low-pass filter after which bilinear sampling to ``size`` is close to Pillow's antialiased one.

    Pillow's filter is a triangle with half its width s = side / size and variance s^2 / 6. Bilinear sampling has
    variance 1 / 6, and the taps (a, 1 - 2a, a) with a = (s^2 - 1) / 12 have the rest. These suffice up to s = 2, so
    larger images are halved first.
    """
    while min(image.shape[:2]) > 2 * size:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    taps = []
    for side in (image.shape[1], image.shape[0]):
        scale = min(max(side / size, 1.0), 2.0)
        a = (scale * scale - 1) / 12
        taps.append(np.array([a, 1 - 2 * a, a], np.float32))
    if taps[0][0] == taps[1][0] == 0:
        return image
    return cv2.sepFilter2D(image, -1, taps[0], taps[1], borderType=cv2.BORDER_REPLICATE)


def eval_image(
    image: np.ndarray, size: int, crop_pct: float, interpolation: str, crop_mode: str = "center"
) -> np.ndarray:
    """timm's evaluation preprocessing, bit for bit: resize to ``size / crop_pct``, then crop the centre.

    Args:
      image: uint8 (H, W, 3).
      size: side of the result, in pixels.
      crop_pct: share of the resized side that is kept.
      interpolation: one of :data:`PIL_FILTERS`.
      crop_mode: "center": the short side is resized and the aspect ratio kept; "squash": both sides are resized.

    Returns:
      uint8 (size, size, 3).
    """
    height, width = image.shape[:2]
    short = math.floor(size / crop_pct)
    new = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    if crop_mode == "squash":
        new = (short, short)
    if new != (width, height):
        image = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(new, PIL_FILTERS[interpolation]))
        height, width = image.shape[:2]
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return image[top : top + size, left : left + size]


def train_transform(
    *,
    size: int,
    crop: str,
    area: tuple[float, float],
    ratio: tuple[float, float],
    resize: str,
    crop_pct: float,
    interpolation: str,
) -> Transform:
    """The training transform.

    Args:
      size: side of the result, in pixels.
      crop: "torch" for :func:`torch_crop`, "tf" for :func:`tf_crop`, "none" for the whole image, squashed to a square.
      area, ratio: of the crop.
      resize: mode of :func:`resize_crop`.
      crop_pct, interpolation: of :func:`eval_image`, which "tf" uses where no crop is found.
    """

    def transform(image: np.ndarray, uniforms: np.ndarray | None, out: np.ndarray) -> None:
        assert uniforms is not None
        height, width = image.shape[:2]
        box: Box | None = (0, 0, height, width)
        if crop == "torch":
            box = torch_crop(uniforms, height, width, area, ratio)
        elif crop == "tf":
            box = tf_crop(uniforms, height, width, area, ratio)
        if box is None:
            out[:] = eval_image(image, size, crop_pct, interpolation)
        else:
            resize_crop(image, box, size, resize, out)

    return transform


def eval_transform(*, size: int, crop_pct: float, interpolation: str, crop_mode: str = "center") -> Transform:
    """The evaluation transform; see :func:`eval_image`."""

    def transform(image: np.ndarray, uniforms: np.ndarray | None, out: np.ndarray) -> None:
        out[:] = eval_image(image, size, crop_pct, interpolation, crop_mode)

    return transform
