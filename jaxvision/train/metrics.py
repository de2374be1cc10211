"""What is measured of each example, and exact averages of it through clu's ``Collection``.

A metric is a line in :data:`TRAIN_METRICS` or :data:`EVAL_METRICS`; the train state, the records and the columns of
``metrics.csv`` follow from its name.

clu is absent from some GPU images, and the step must run there: then a stand-in with the same arithmetic takes its
place.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxvision.optim.losses import smoothed_one_hot, softmax_cross_entropy

try:
    from clu import metrics as clu_metrics
except ImportError:
    clu_metrics = None

Sums = dict[str, dict[str, jax.Array]]


def in_top_k(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """1.0 where all but fewer than ``k`` other logits are below the label's, else 0.0: float32 (B,) of (B, K) and (B,).

    A tie counts against the label, so constant logits are never right (where K > k), and so does a NaN. This is the one
    rule of training metrics, evaluation and tools/validate.py.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    others = jnp.sum(~(logits < own), axis=1) - 1  # the label's logit is not below itself
    return ((others < k) & ~jnp.isnan(own[:, 0])).astype(jnp.float32)


def answers(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The class that each image is taken for, int32 (B,), and its probability, float32 (B,), of (B, K) and (B,).

    It is the label where :func:`in_top_k` counts it as right; otherwise, also after a tie, the best of the others.
    """
    right = in_top_k(logits, labels, 1) > 0
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    finite = jnp.maximum(logits, jnp.finfo(logits.dtype).min)  # or a label could be the best of the others
    other = jnp.argmax(jnp.where(own, -jnp.inf, finite), axis=-1)
    answer = jnp.where(right, labels, other).astype(jnp.int32)
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    return answer, jnp.take_along_axis(probabilities, answer[:, None], axis=1)[:, 0]


class Metric(NamedTuple):
    """A number per example.

    Attributes:
      values: (B,) of logits (B, K), labels (B,) and the training losses (B,); the last are None in evaluation.
      scale: of the average: 100 for per cent.
    """

    values: Callable[[jax.Array, jax.Array, jax.Array | None], jax.Array]
    scale: float = 1.0


# The loss that was minimised: of smoothed or mixed targets, with the teacher's part.
TRAIN_METRICS: dict[str, Metric] = {
    "loss": Metric(lambda logits, labels, losses: losses),
    "accuracy": Metric(lambda logits, labels, losses: in_top_k(logits, labels, 1), 100),
}
EVAL_METRICS: dict[str, Metric] = {
    "top1": Metric(lambda logits, labels, losses: in_top_k(logits, labels, 1), 100),
    "top5": Metric(lambda logits, labels, losses: in_top_k(logits, labels, 5), 100),
    "eval_loss": Metric(
        lambda logits, labels, losses: softmax_cross_entropy(logits, smoothed_one_hot(labels, logits.shape[-1]))
    ),
}
# What a record holds besides; the columns of metrics.csv in their order.
TRAIN_COLUMNS = (*TRAIN_METRICS, "learning_rate", "bad_steps", "images_per_second")
EVAL_COLUMNS = (*EVAL_METRICS, *(f"ema_{name}" for name in EVAL_METRICS), "examples")


def metric_values(
    metrics: Mapping[str, Metric], logits: jax.Array, labels: jax.Array, losses: jax.Array | None = None
) -> dict[str, jax.Array]:
    """Each metric's (B,) values; see :class:`Metric`."""
    return {name: metric.values(logits, labels, losses) for name, metric in metrics.items()}


def batch_sums(values: Mapping[str, jax.Array], mask: jax.Array) -> Sums:
    """Sum and count of each metric over the unmasked examples.

    Args:
      values: (B,) arrays per metric.
      mask: bool (B,).

    Returns:
      ``{name: {"total": float32, "count": int32}}``; counts and 0/1 totals are exact below 2^24 per log interval.
    """
    if clu_metrics is None:
        return {
            name: {"total": jnp.where(mask, v, 0.0).sum(), "count": mask.sum().astype(jnp.int32)}
            for name, v in values.items()
        }
    collection = _collection(tuple(values)).single_from_model_output(**values, mask=mask)
    averages = {name: getattr(collection, name) for name in values}
    return {name: {"total": a.total, "count": a.count.astype(jnp.int32)} for name, a in averages.items()}


@functools.cache
def _collection(names: tuple[str, ...]) -> Any:
    return clu_metrics.Collection.create(**{name: clu_metrics.Average.from_output(name) for name in names})


def add_sums(a: Sums, b: Sums) -> Sums:
    """Merges the sums of two sets of examples."""
    return jax.tree.map(jnp.add, a, b)


def zero_sums(names: Iterable[str]) -> Sums:
    """Sums over no examples."""
    return {name: {"total": jnp.zeros((), jnp.float32), "count": jnp.zeros((), jnp.int32)} for name in names}


def compute(metrics: Mapping[str, Metric], sums: Any) -> dict[str, float]:
    """The averages of fetched sums, scaled; NaN where nothing was counted."""
    return {name: metric.scale * _average(sums[name]) for name, metric in metrics.items()}


def _average(sums: Mapping[str, Any]) -> float:
    if not sums["count"]:
        return float("nan")
    if clu_metrics is None:
        return float(sums["total"]) / float(sums["count"])
    return float(clu_metrics.Average(total=sums["total"], count=sums["count"]).compute())
