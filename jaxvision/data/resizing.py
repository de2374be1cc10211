"""Resizing uint8 images (H, W, 3), as Pillow, OpenCV and TensorFlow do it."""

from __future__ import annotations

import math
import threading

import numpy as np
from PIL import Image

try:
    import cv2

    cv2.setNumThreads(0)  # the loader has its own threads
except ImportError:
    cv2 = None

# Pillow's filters, which antialias; timm's and torchvision's names.
PIL_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
RANDOM_FILTERS = ("bilinear", "bicubic")  # timm's "random" is one of them, for each image
TENSORFLOW_FILTERS = ("tf_bilinear", "tf_bicubic")
EVAL_RESIZES = (*PIL_FILTERS, "area", "linear", *TENSORFLOW_FILTERS)
RESIZES = ("filter", *EVAL_RESIZES, "random")
_TABLE = 1024  # TensorFlow reads the bicubic weights from a table of this many steps a pixel


def resize(
    image: np.ndarray, height: int, width: int, mode: str, *, out: np.ndarray | None = None, truncate: bool = False
) -> np.ndarray:
    """Scales an image to uint8 (height, width, 3).

    Args:
      image: uint8 (H, W, 3).
      height, width: of the result, in pixels.
      mode: one of :data:`RESIZES` but "random". "bicubic" and "bilinear": Pillow's, antialiased. "filter": bilinear
        after a small low-pass filter with the variance of Pillow's antialiasing (2 to 2.5 times as fast as OpenCV's
        area interpolation, and closer to Pillow from a scale of 1.5 on: docs/data.md). "area": OpenCV's average where
        it shrinks, "linear" elsewhere. "linear": OpenCV's bilinear, not antialiased. "tf_bilinear", "tf_bicubic": see
        :func:`tensorflow_resize`.
      out: if given, where the result is written.
      truncate: whether TensorFlow's modes truncate to whole levels, as its casts to uint8 do, instead of rounding.
    """
    if out is None:
        out = np.empty((height, width, 3), np.uint8)
    if image.shape[:2] == (height, width):
        out[:] = image
    elif mode in TENSORFLOW_FILTERS:
        values = tensorflow_resize(image, height, width, cubic=mode == "tf_bicubic")
        if not truncate:
            values += np.float32(0.5)
        out[:] = np.clip(values, 0, 255, out=values)
    elif mode in PIL_FILTERS or cv2 is None:
        pillow = Image.fromarray(np.ascontiguousarray(image))
        out[:] = np.asarray(pillow.resize((width, height), PIL_FILTERS.get(mode, Image.Resampling.BILINEAR)))
    else:
        shrinks = image.shape[0] >= height and image.shape[1] >= width
        if mode == "filter":
            image = _low_pass(image, height, width)
        area = mode == "area" and shrinks
        cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR)
    return out


class _Memory(threading.local):
    """Float arrays that a thread uses again. New memory for every image would take most of the time."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """float32 of this shape, of any content; the next caller with this name gets the same memory."""
        size = math.prod(shape)
        if name not in self.arrays or self.arrays[name].size < size:
            self.arrays[name] = np.empty(size, np.float32)
        return self.arrays[name][:size].reshape(shape)


_memory = _Memory()


def tensorflow_resize(image: np.ndarray, height: int, width: int, *, cubic: bool) -> np.ndarray:
    """TensorFlow's resize without antialiasing, float32 (height, width, 3), bit for bit.

    Bilinear is ``tf.image.resize`` of TensorFlow 2. Bicubic is ``tf.image.resize_bicubic`` of TensorFlow 1: output
    pixel i is read at input coordinate i * scale, without the half pixel that others add, and Keys' a is -0.75.
    Source: tensorflow/core/kernels/image/resize_bilinear_op.cc and resize_bicubic_op.cc.

    Args:
      image: uint8 (H, W, 3).
      height, width: of the result, in pixels.
      cubic: whether bicubic.

    Returns:
      An array that is valid until this thread resizes again.
    """
    values = _memory.take("image", image.shape)
    values[:] = image
    # The order of the two passes and of the additions is TensorFlow's: truncation makes the last bit of a sum visible.
    if cubic:
        return _transposed(_cubic_rows(_transposed(_cubic_rows(values, height)), width))
    return _linear_rows(_transposed(_linear_rows(_transposed(values), width)), height)


def _transposed(values: np.ndarray) -> np.ndarray:
    out = _memory.take("transposed", (values.shape[1], values.shape[0], values.shape[2]))
    if cv2 is not None:  # three times as fast
        return cv2.transpose(values, out)
    out[:] = values.transpose(1, 0, 2)
    return out


def _cubic_rows(values: np.ndarray, count: int) -> np.ndarray:
    """TensorFlow 1's bicubic along the first axis, to ``count`` rows."""
    at = np.arange(count, dtype=np.float32) * (np.float32(len(values)) / np.float32(count))
    first = np.floor(at).astype(np.int64)
    d = np.rint((at - first.astype(np.float32)) * np.float32(_TABLE)).astype(np.float64) / _TABLE
    a = -0.75
    near = lambda x: ((a + 2) * x - (a + 3)) * x * x + 1  # noqa: E731  Keys' cubic up to a distance of 1
    far = lambda x: ((a * x - 5 * a) * x + 8 * a) * x - 4 * a  # noqa: E731  and from 1 to 2
    weights = np.stack([far(d + 1), near(d), near(1 - d), far(2 - d)]).astype(np.float32)[..., None, None]
    total, rows = (_memory.take(name, (count, *values.shape[1:])) for name in ("total", "rows"))
    for tap in range(4):
        chosen = np.take(values, first - 1 + tap, 0, out=rows if tap else total, mode="clip")
        chosen *= weights[tap]
        if tap:
            total += chosen
    return total


def _linear_rows(values: np.ndarray, count: int) -> np.ndarray:
    """TensorFlow 2's bilinear along the first axis, to ``count`` rows."""
    half = np.float32(0.5)
    at = (np.arange(count, dtype=np.float32) + half) * (np.float32(len(values)) / np.float32(count)) - half
    first = np.floor(at).astype(np.int64)
    share = at - first.astype(np.float32)
    low, high = (_memory.take(name, (count, *values.shape[1:])) for name in ("rows", "total"))
    np.take(values, first, 0, out=low, mode="clip")
    np.take(values, first + 1, 0, out=high, mode="clip")
    high -= low
    high *= share[:, None, None]
    high += low
    return high


def _low_pass(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The low-pass filter after which bilinear sampling to this size is close to Pillow's antialiased one.

    Pillow's filter is a triangle with half its width s = side / size and variance s^2 / 6. Bilinear sampling has
    variance 1 / 6, and the taps (a, 1 - 2a, a) with a = (s^2 - 1) / 12 have the rest. These suffice up to s = 2, so
    larger images are halved first.
    """
    while image.shape[0] > 2 * height and image.shape[1] > 2 * width:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    taps = []
    for side, size in ((image.shape[1], width), (image.shape[0], height)):
        scale = min(max(side / size, 1.0), 2.0)
        a = (scale * scale - 1) / 12
        taps.append(np.array([a, 1 - 2 * a, a], np.float32))
    if taps[0][0] == taps[1][0] == 0:
        return image
    return cv2.sepFilter2D(image, -1, taps[0], taps[1], borderType=cv2.BORDER_REPLICATE)
