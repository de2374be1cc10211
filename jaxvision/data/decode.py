"""From encoded bytes to a cropped and resized uint8 image.

Decoding is simplejpeg with accurate DCT and smooth upsampling (bit-identical to
Pillow), with Pillow as the fallback for everything else. Evaluation resizes with
Pillow, so that it is bit-identical to timm's preprocessing.
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
except ImportError:  # Pillow alone works, at about 0.7 of the speed
    simplejpeg = None
try:
    import cv2

    cv2.setNumThreads(0)  # the loader has its own threads
except ImportError:
    cv2 = None

Box = tuple[int, int, int, int]  # top, left, height, width
# transform(image, uniforms, out): writes the network's uint8 input; uniforms are None in evaluation.
Transform = Callable[[np.ndarray, np.ndarray | None, np.ndarray], None]
UNIFORMS = 40  # random numbers that one crop may use: ten attempts of four
ATTEMPTS = 10
PIL_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
RESIZES = ("filter", "area", "antialias", "linear")
CROPS = ("torch", "tf", "none")


class Scratch(threading.local):
    """A decode buffer per thread. Fresh pages for every image cost a quarter of the decode time."""

    def __init__(self) -> None:
        self.buffer = np.empty(0, np.uint8)

    def take(self, size: int) -> np.ndarray:
        """At least ``size`` bytes, overwritten by the next image of this thread."""
        if self.buffer.size < size:
            self.buffer = np.empty(size, np.uint8)
        return self.buffer


def decode(data: bytes | memoryview, scratch: Scratch | None = None) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a JPEG, PNG or any format Pillow reads.

    Args:
      data: the encoded image.
      scratch: if given, the result may lie in its buffer and lives until this thread decodes again.

    Raises:
      ValueError: the bytes are no complete image.
    """
    if simplejpeg is not None and data[:2] == b"\xff\xd8":
        try:
            # CMYK and other rarities are Pillow's, whose color conversion is the reference.
            height, width, space, _ = simplejpeg.decode_jpeg_header(data)
            if space in ("YCbCr", "Gray"):
                buffer = scratch.take(height * width * 3) if scratch else None
                return simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, buffer=buffer)
        except ValueError:
            pass  # Pillow decides
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF and palettes; the pixels are fine
            with Image.open(io.BytesIO(data)) as image:
                return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError("not an image of any format that Pillow reads") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, ... for bad files
        raise ValueError(f"not a complete image: {error}") from error


def torch_crop(
    uniforms: np.ndarray, height: int, width: int, area: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """torchvision's RandomResizedCrop: area uniform, aspect log-uniform, ten attempts, then the central crop."""
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
    """TensorFlow's ``sample_distorted_bounding_box`` distribution for a box that is the whole image.

    The height, not the area, is uniform between those of the smallest and largest
    allowed area, so crops are smaller than torch's. At least 0.1 of the image is kept
    (``min_object_covered``). None after ten failed attempts: the recipes then use the
    evaluation crop. Source: tensorflow/core/kernels/image/sample_distorted_bounding_box_op.cc.
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
    """Cuts ``box`` and scales it to (size, size, 3), into ``out`` if given.

    Modes: "filter" is bilinear after a small low-pass filter whose variance is that of
    Pillow's antialiasing (2 to 2.5 times faster than OpenCV's area, and closer to Pillow
    from a scale of 1.5 on: docs/data.md); "area" is OpenCV's average when shrinking;
    "antialias" is Pillow's bicubic; "linear" has no antialiasing, as TensorFlow's default.
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
    """What bilinear sampling to ``size`` needs to act like Pillow's antialiased one.

    Pillow's filter is a triangle of half width s = side / size, variance s^2 / 6; bilinear
    sampling brings 1 / 6 of it, and the taps (a, 1 - 2a, a), a = (s^2 - 1) / 12, the rest.
    They reach to s = 2, so larger images are halved first.
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
    """timm's evaluation preprocessing, bit for bit: resize to size / crop_pct, centre crop.

    "center" resizes the short side and keeps the aspect ratio; "squash" resizes both sides.
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
    """The training transform; ``crop`` is "torch", "tf" or "none" (the whole image, squashed)."""

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
