"""Masked, exact metrics through clu's ``Collection``.

clu is absent from some GPU images, and the step must run there: then a stand-in with
the same arithmetic for the two methods used here takes its place.
"""

from typing import Any

import jax
import jax.numpy as jnp

try:
    from clu import metrics as clu_metrics
except ImportError:
    clu_metrics = None

Sums = dict[str, dict[str, jax.Array]]

# No postponed annotations in this file: clu reads the classes themselves from them.
if clu_metrics is not None:
    import flax.struct

    @flax.struct.dataclass
    class _TrainCollection(clu_metrics.Collection):
        loss: clu_metrics.Average.from_output("loss")
        accuracy: clu_metrics.Average.from_output("accuracy")

    @flax.struct.dataclass
    class _EvalCollection(clu_metrics.Collection):
        loss: clu_metrics.Average.from_output("loss")
        top1: clu_metrics.Average.from_output("top1")
        top5: clu_metrics.Average.from_output("top5")

    _COLLECTIONS = (_TrainCollection, _EvalCollection)


def batch_sums(values: dict[str, jax.Array], mask: jax.Array) -> Sums:
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
    collection = _collection(values).single_from_model_output(**values, mask=mask)
    averages = {name: getattr(collection, name) for name in values}
    return {name: {"total": a.total, "count": a.count.astype(jnp.int32)} for name, a in averages.items()}


def add_sums(a: Sums, b: Sums) -> Sums:
    """Merges the sums of two sets of examples."""
    return jax.tree.map(jnp.add, a, b)


def zero_sums(names: tuple[str, ...]) -> Sums:
    """Sums over no examples."""
    return {name: {"total": jnp.zeros((), jnp.float32), "count": jnp.zeros((), jnp.int32)} for name in names}


def compute(sums: Any) -> dict[str, float]:
    """The averages of fetched sums; NaN where nothing was counted."""
    if clu_metrics is None:
        return {k: float(s["total"]) / float(s["count"]) if s["count"] else float("nan") for k, s in sums.items()}
    averages = {k: clu_metrics.Average(total=s["total"], count=s["count"]) for k, s in sums.items()}
    return {k: float(a.compute()) if int(a.count) else float("nan") for k, a in averages.items()}


def _collection(values: dict[str, jax.Array]) -> Any:
    for collection in _COLLECTIONS:
        if set(collection.__annotations__) == set(values):
            return collection
    raise ValueError(f"no collection for metrics {sorted(values)}")
