"""The policies of AutoAugment (Cubuk et al. 2018, arXiv 1805.09501) for ImageNet, and how a pair is chosen.

"original" is the paper's policy, "v0" that of tensorflow/tpu's EfficientNet code, and "resnest" that of ResNeSt's code:
the paper's, but for the sixteenth pair.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Operation = tuple[str, float, int]  # name, probability, magnitude of 10

PAIRS: dict[str, tuple[tuple[Operation, Operation], ...]] = {
    "original": (
        (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
        (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
        (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
        (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
        (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
        (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
        (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
        (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
        (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
        (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
        (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
        (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
        (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    ),
    "v0": (
        (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
        (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
        (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
        (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
        (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
        (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
        (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
        (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
        (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
        (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
        (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
        (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
        (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
        (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
        (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
        (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9)),
        (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
        (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
        (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
        (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
        (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
        (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
        (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
        (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
        (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
    ),
}
PAIRS["resnest"] = (*PAIRS["original"][:15], (("Rotate", 0.8, 8), ("Color", 1.0, 0)), *PAIRS["original"][16:])


def pair_tables(name: str, operations: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A policy's indices into ``operations``, probabilities and magnitudes, each (25, 2)."""
    pairs = PAIRS[name]
    index = np.array([[operations.index(op) for op, _, _ in pair] for pair in pairs])
    probs = np.array([[prob for _, prob, _ in pair] for pair in pairs], np.float32)
    return index, probs, np.array([[level for _, _, level in pair] for pair in pairs])


def choose_pair(u: jax.Array, layer: int, probs: np.ndarray) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Index of the pair of each image, whether its operation ``layer`` is applied, and the uniform for its sign.

    Args:
      u: uniforms (B, 5): one for the pair; for each of its two operations, one for whether and one for the sign.
      layer: 0 or 1, which operation of the pair.
      probs: (25, 2), of :func:`pair_tables`.

    Returns:
      int32 (B,), bool (B,) and float32 (B,).
    """
    pair = (u[:, 0] * len(probs)).astype(jnp.int32)
    return pair, u[:, 1 + 2 * layer] < jnp.asarray(probs)[pair, layer], u[:, 2 + 2 * layer]
