"""What TensorFlow's own operations compute: crops, the tables of colour operations, the decay of the EMA."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from tools.parity.recipes.torch_formulas import DRAWS, SOURCE_SIZES, crop_statistics

# RandAugment draws each with the same probability: tensorflow/tpu efficientnet/autoaugment.py:696-700.
RANDAUGMENT = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "Color", "Contrast", "Brightness",
    "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Cutout", "SolarizeAdd",
)  # fmt: skip
# The policy v0, in pairs of operation, tenths of probability and level: efficientnet/autoaugment.py:41-67.
V0 = (
    "Equalize 8 1 ShearY 8 4", "Color 4 9 Equalize 6 3", "Color 4 1 Rotate 6 8", "Solarize 8 3 Equalize 4 7",
    "Solarize 4 2 Solarize 6 2", "Color 2 0 Equalize 8 8", "Equalize 4 8 SolarizeAdd 8 3", "ShearX 2 9 Rotate 6 8",
    "Color 6 1 Equalize 10 2", "Invert 4 9 Rotate 6 0", "Equalize 10 9 ShearY 6 3", "Color 4 7 Equalize 6 0",
    "Posterize 4 6 AutoContrast 4 7", "Solarize 6 8 Color 6 9", "Solarize 2 4 Rotate 8 9", "Rotate 10 7 TranslateY 8 9",
    "ShearX 0 0 Solarize 8 4", "ShearY 8 0 Color 6 4", "Color 10 0 Rotate 6 2", "Equalize 8 4 Equalize 0 8",
    "Equalize 10 4 AutoContrast 6 2", "ShearY 4 7 SolarizeAdd 6 7", "Posterize 8 2 Solarize 6 10",
    "Solarize 6 8 Equalize 6 1", "Color 8 6 Rotate 4 5",
)  # fmt: skip
GREYS = (*range(0, 256, 15), 127, 128)  # grey levels at which a table is written down


def crops(
    area: tuple[float, float], ratio: tuple[float, float], covered: float, attempts: int, box: bool
) -> dict[str, Any]:
    """Statistics of ``tf.image.sample_distorted_bounding_box`` for each size of image.

    Its stateless form, of the same algorithm, draws the same crops each time.

    Args:
      area: smallest and largest share of the image.
      ratio: smallest and largest width over height.
      covered: smallest share of the object that the crop holds.
      attempts: after which the whole image is taken.
      box: whether the whole image is passed as the object, or no object.
    """
    boxes = tf.constant([[[0.0, 0.0, 1.0, 1.0]]]) if box else tf.zeros([0, 0, 4], tf.float32)

    @tf.function
    def draw(shape: Any) -> Any:
        found = tf.TensorArray(tf.int32, DRAWS)
        for i in tf.range(DRAWS):
            begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
                shape, boxes, tf.stack([0, i]), min_object_covered=covered, aspect_ratio_range=ratio, area_range=area,
                max_attempts=attempts, use_image_if_no_bounding_boxes=True,
            )  # fmt: skip
            found = found.write(i, tf.concat([begin[:2], size[:2]], 0))
        return found.stack()

    result = {}
    for height, width in SOURCE_SIZES:
        result[f"{height}x{width}"] = crop_statistics(draw(tf.constant([height, width, 3])).numpy(), height, width)
    return result


def _threshold(value: int) -> Any:
    """A Python integer as the comparison with an image of bytes sees it: modulo 256."""
    return tf.constant(value % 256, tf.uint8)


def posterize_table(bits: int) -> list[int]:
    """What TensorFlow's shifts make of each grey level: right and left by ``8 - bits`` (autoaugment.py:222-225)."""
    grey, shift = tf.constant(GREYS, tf.uint8), tf.constant((8 - bits) % 256, tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(grey, shift), shift).numpy().tolist()


def solarize_table(threshold: int) -> list[int]:
    """Inverts from the threshold on, which is cast to a byte (autoaugment.py:176-180)."""
    grey = tf.constant(GREYS, tf.uint8)
    return tf.where(grey < _threshold(threshold), grey, 255 - grey).numpy().tolist()


def solarize_add_table(addition: int) -> list[int]:
    """Adds below 128 and clips (autoaugment.py:183-190)."""
    grey = tf.constant(GREYS, tf.uint8)
    added = tf.cast(tf.clip_by_value(tf.cast(grey, tf.int64) + addition, 0, 255), tf.uint8)
    return tf.where(grey < _threshold(128), added, grey).numpy().tolist()


def operation(name: str, level: float, translate: float, cutout: float) -> dict[str, Any]:
    """Argument of an operation at a level of 10, or the table of grey levels that it is (autoaugment.py:477-531)."""
    share = level / 10.0
    if name in ("AutoContrast", "Equalize", "Invert"):
        return {}
    if name == "Rotate":
        return {"plus or minus": share * 30.0}
    if name in ("ShearX", "ShearY"):
        return {"plus or minus": share * 0.3}
    if name in ("TranslateX", "TranslateY"):
        return {"plus or minus": share * translate}
    if name == "Cutout":
        return {"half side": int(share * cutout)}
    if name == "Posterize":
        return {"table": posterize_table(int(share * 4))}
    if name == "Solarize":
        return {"table": solarize_table(int(share * 256))}
    if name == "SolarizeAdd":
        return {"table": solarize_add_table(int(share * 110))}
    return {"factor": share * 1.8 + 0.1}  # Color, Contrast, Brightness, Sharpness


def randaugment(magnitude: float, layers: int = 2) -> dict[str, Any]:
    """RandAugment: each layer applies one of sixteen operations, always (autoaugment.py:675-718)."""
    share = 1 / len(RANDAUGMENT)
    chosen = {name: {"share": share} | operation(name, magnitude, 100.0, 40.0) for name in RANDAUGMENT}
    return {"layers": layers, "fill": [128, 128, 128], "operations": chosen}


def autoaugment_v0() -> dict[str, Any]:
    """AutoAugment's v0: one of 25 sub-policies, each of two operations with their probabilities."""
    found = []
    for row in V0:
        words = row.split()
        steps = [words[:3], words[3:]]
        found.append(
            [
                {"operation": name, "probability": int(tenths) / 10} | operation(name, float(level), 250.0, 100.0)
                for name, tenths, level in steps
            ]
        )
    return {"fill": [128, 128, 128], "sub-policies": found}


def contrast_grey(size: int) -> float:
    """The grey with which ``contrast`` blends an image of ``size`` pixels: its histogram's sum over 256, clipped.

    TensorFlow's own histogram, of an image of one grey (autoaugment.py:199-215).
    """
    grey = tf.fill([size, size, 1], 90)
    mean = tf.reduce_sum(tf.cast(tf.histogram_fixed_width(grey, [0, 255], nbins=256), tf.float32)) / 256.0
    return float(tf.cast(tf.clip_by_value(mean, 0.0, 255.0), tf.uint8))


def ema_decays(decay: float, count: int) -> np.ndarray:
    """The decays that TensorFlow 1's ``ExponentialMovingAverage`` uses, read off a graph's first ``count`` updates.

    As in the training scripts, the average is applied after the update, which counts the step.
    """
    tf1 = tf.compat.v1
    with tf.Graph().as_default():
        step = tf1.train.get_or_create_global_step()
        value = tf1.get_variable("v", [], tf.float64, tf1.zeros_initializer(), use_resource=True)
        average = tf1.train.ExponentialMovingAverage(decay, num_updates=step)
        with tf.control_dependencies([value.assign_add(1.0), step.assign_add(1)]):
            update = average.apply([value])
        shadow = average.average(value)
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            decays, before = [], 0.0
            for i in range(count):
                session.run(update)
                after = session.run(shadow)
                decays.append((after - (i + 1.0)) / (before - (i + 1.0)))
                before = after
    return np.array(decays)
