"""The whole state of a run as one plain pytree, and its flat form for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvision.train.metrics import TRAIN_METRICS, zero_sums


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step reads and writes.

    Attributes:
      step: steps taken, int32; also the data position.
      params, batch_stats: of the model, float32.
      opt_state: optax state.
      ema_params, ema_batch_stats: the EMA of both.
      metrics: sums since the last multiple of ``log_every``.
      bad_total, bad_in_row: steps whose loss, gradients or statistics were not finite.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any
    ema_batch_stats: Any
    metrics: Any
    bad_total: jax.Array
    bad_in_row: jax.Array


def create_state(variables: Mapping[str, Any], optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step; the EMA starts at the initial values."""
    copy = lambda tree: jax.tree.map(lambda x: jnp.array(x, copy=True), tree)  # noqa: E731
    params, stats = copy(variables["params"]), copy(variables["batch_stats"])
    zero = lambda: jnp.zeros((), jnp.int32)  # noqa: E731  (one buffer each: they are donated)
    return TrainState(
        step=zero(),
        params=params,
        batch_stats=stats,
        opt_state=optimizer.init(params),
        ema_params=copy(params),
        ema_batch_stats=copy(stats),
        metrics=zero_sums(TRAIN_METRICS),
        bad_total=zero(),
        bad_in_row=zero(),
    )


def flatten(tree: Any) -> dict[str, Any]:
    """Leaves under dotted names such as ``params.layer1.0.conv1.weight``."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {".".join(_entry(e) for e in path): leaf for path, leaf in leaves}


def unflatten(tree: Any, flat: Mapping[str, np.ndarray]) -> Any:
    """A tree like ``tree`` with the leaves of :func:`flatten`'s result."""
    return jax.tree.unflatten(jax.tree.structure(tree), [flat[name] for name in flatten(tree)])


def _entry(entry: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)
