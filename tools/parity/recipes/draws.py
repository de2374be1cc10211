"""Statistics of random draws, in which a source and jaxvision are compared, and the inputs on which losses are."""

from __future__ import annotations

from typing import Any

import numpy as np

DRAWS = 100_000
SOURCE_SIZES = ((375, 500), (500, 375), (333, 500), (1200, 800))  # height, width of images that are cropped
QUANTILES = (0.0, 0.01, *(i / 20 for i in range(1, 20)), 0.99, 1.0)
LOSS_CASES = ((1.0, "one label"), (0.7, "mixed 0.7"), (0.1, "mixed 0.1"))


def distribution(values: np.ndarray) -> dict[str, Any]:
    """Mean, deviation and quantiles of draws, at :data:`QUANTILES`."""
    values = np.asarray(values, np.float64)
    found = {"draws": len(values), "mean": values.mean(), "deviation": values.std()}
    return found | {"quantiles": np.quantile(values, QUANTILES).tolist()}


def crop_statistics(boxes: np.ndarray, height: int, width: int) -> dict[str, Any]:
    """Distributions of what a crop covers.

    Args:
      boxes: (draws, 4): top, left, height, width in pixels.
      height: of the image.
      width: of the image.
    """
    top, left, h, w = boxes.astype(np.float64).T
    return {
        "area": distribution(h * w / (height * width)),
        "log ratio": distribution(np.log(w / h)),
        "vertical centre": distribution((top + h / 2) / height),
        "horizontal centre": distribution((left + w / 2) / width),
        "whole image": float(np.mean((h == height) & (w == width))),
    }


def mixing_statistics(mixup: np.ndarray, cutmix: np.ndarray) -> dict[str, Any]:
    """How often CutMix is taken, and the distributions of the own label's weight."""
    result: dict[str, Any] = {"share of CutMix": len(cutmix) / (len(mixup) + len(cutmix))}
    if len(mixup):
        result["Mixup"] = distribution(mixup)
    if len(cutmix):
        result["CutMix"] = distribution(cutmix)
    return result


def erasing_statistics(small: np.ndarray, certain: np.ndarray, count: int) -> dict[str, Any]:
    """How often an image is erased, and the distributions of what is erased.

    Args:
      small: (images, 3) share, rows and columns that are erased of images with the recipe's probability.
      certain: the same of images of the recipe's size with probability 1.
      count: the largest number of boxes; of several the shape is not compared.
    """
    share, rows, columns = certain[certain[:, 0] > 0].T
    result: dict[str, Any] = {"untouched": float(np.mean(small[:, 0] == 0)), "area": distribution(share)}
    return result | ({"log aspect": distribution(np.log(rows / columns))} if count == 1 else {})


def loss_inputs(classes: int = 10, batch: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits (batch, classes), labels and partners' labels, the same in every test."""
    rng = np.random.RandomState(0)  # numpy keeps its values for ever
    logits = rng.normal(0, 3, (batch, classes)).astype(np.float32)
    return logits, rng.randint(0, classes, batch), rng.randint(0, classes, batch)
