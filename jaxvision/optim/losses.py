"""Losses per example of logits and targets; the step takes their mean.

Targets are (B, K) probabilities: one-hot, smoothed, or mixed from two images. A loss is a function in :data:`LOSSES`,
a kind of distillation a function in :data:`DISTILLATIONS`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxvision.options import Problem, option

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def smoothed_one_hot(labels: jax.Array, classes: int, smoothing: float = 0.0) -> jax.Array:
    """``(1 - e) onehot + e / K`` (Szegedy et al. 2016), float32 (B, K) of int labels (B,)."""
    return jax.nn.one_hot(labels, classes) * (1.0 - smoothing) + smoothing / classes


def softmax_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """``-sum_k q_k log softmax(logits)_k`` of targets (B, K): (B,), at least float32."""
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return -jnp.sum(targets * jax.nn.log_softmax(wide), -1)


def binary_cross_entropy(
    logits: jax.Array, targets: jax.Array, *, threshold: float | None = None, sum_classes: bool = False
) -> jax.Array:
    """Sigmoid cross-entropy per class (Wightman et al. 2021, arXiv 2110.00476), the mean over classes: (B,).

    Args:
      logits: (B, K).
      targets: (B, K) in [0, 1].
      threshold: targets above it become 1, others 0, so that both classes of a mixed image get the target 1
        (timm's ``--bce-target-thresh``; DeiT-III uses 0). It undoes label smoothing.
      sum_classes: the sum over classes instead of the mean (big_vision; timm's ``--bce-sum``).
    """
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if threshold is not None:
        targets = (targets > threshold).astype(wide.dtype)
    losses = jnp.maximum(wide, 0) - wide * targets + jnp.log1p(jnp.exp(-jnp.abs(wide)))
    return losses.sum(-1) if sum_classes else losses.mean(-1)


def _binary(config: LossConfig) -> Loss:
    threshold = None if config.target_threshold < 0 else config.target_threshold
    return functools.partial(binary_cross_entropy, threshold=threshold, sum_classes=config.sum_classes)


LOSSES: dict[str, Callable[[LossConfig], Loss]] = {
    "cross_entropy": lambda config: softmax_cross_entropy,
    "binary": _binary,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Loss of the labels."""

    name: str = option(
        "cross_entropy",
        '"cross_entropy": of a softmax over the classes; "binary": of a sigmoid per class',
        choices=LOSSES,
    )
    target_threshold: float = option(
        -1.0, "of binary: targets above it become 1, others 0; negative: targets stay as they are", low=-1, high=1
    )
    sum_classes: bool = option(False, "of binary: the sum over classes, not their mean")
    label_smoothing: float = option(0.0, "share of each target that is spread over all classes", low=0, below=1)


def make_loss(config: LossConfig) -> Loss:
    """The loss per example of logits and targets."""
    return LOSSES[config.name](config)


def hard_distillation(config: TeacherConfig, logits: jax.Array, teacher: jax.Array) -> jax.Array:
    """Cross-entropy with the teacher's most probable class, (B,)."""
    return softmax_cross_entropy(logits, jax.nn.one_hot(teacher.argmax(-1), logits.shape[-1]))


def soft_distillation(config: TeacherConfig, logits: jax.Array, teacher: jax.Array) -> jax.Array:
    """Kullback-Leibler divergence at a temperature, times the temperature squared, *divided by K*: (B,).

    The division by K is DeiT's: its code divides the sum over B x K elements by their number.
    """
    temperature = config.temperature
    log_p, log_q = jax.nn.log_softmax(logits / temperature), jax.nn.log_softmax(teacher / temperature)
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), -1) * temperature**2 / logits.shape[-1]


DISTILLATIONS: dict[str, Callable[[TeacherConfig, jax.Array, jax.Array], jax.Array]] = {
    "hard": hard_distillation,
    "soft": soft_distillation,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Distillation: a trained teacher whose predictions the network also learns (DeiT)."""

    name: str = option("", "model; empty: no distillation")
    weights: str = option("", "the teacher's weights: as model.weights")
    kind: str = option(
        "hard", '"hard": cross-entropy with the teacher\'s class; "soft": divergence from the teacher\'s distribution',
        choices=DISTILLATIONS,
    )  # fmt: skip
    alpha: float = option(0.5, "share of the distillation in the loss", low=0, high=1)
    temperature: float = option(1.0, "divides the logits of soft distillation; DeiT: 1", low=1e-3, high=1e3)

    def problems(self) -> list[Problem]:
        """What does not go together."""
        if not self.name or self.weights:
            return []
        return [Problem(("name", "weights"), "config.teacher.weights is empty: name the teacher's weights")]


def distillation(config: TeacherConfig, logits: jax.Array, teacher: jax.Array) -> jax.Array:
    """The student's loss (B,) against a teacher's logits (B, K) (Touvron et al. 2020, arXiv 2012.12877)."""
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    logits, teacher = jnp.asarray(logits, wide), jax.lax.stop_gradient(jnp.asarray(teacher, wide))
    return DISTILLATIONS[config.kind](config, logits, teacher)
