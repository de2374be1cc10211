"""Optimizers from optax parts, without the learning rate, and regex parameter groups.

The step multiplies the update by ``-learning_rate(step)``, so the schedule follows the
step counter of the run and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import optax

from jaxvision.errors import UserError

Rules = Sequence[tuple[str, float]]


def parameter_names(params: Any) -> list[str]:
    """What rules are matched with, in tree order: dotted name (timm's key) and rank, ``layer1.0.conv1.weight:4d``."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [f"{'.'.join(entry.key for entry in path)}:{leaf.ndim}d" for path, leaf in leaves]


def match_rules(params: Any, rules: Rules) -> Any:
    """A tree like ``params`` with, for each leaf, the value of the one rule whose regex matches its whole name.

    Raises:
      UserError: listing every parameter that matches no rule or several.
    """
    compiled = []
    for pattern, value in rules:
        try:
            compiled.append((re.compile(pattern), value))
        except re.error as error:
            raise UserError(f"weight-decay rule {pattern!r} is no regular expression: {error}") from error
    problems, values = [], []
    for name in parameter_names(params):
        matching = [(pattern.pattern, value) for pattern, value in compiled if pattern.fullmatch(name)]
        if len(matching) != 1:
            problems.append(f"{name}: matched by {[pattern for pattern, _ in matching] or 'no rule'}")
        values.append(matching[0][1] if matching else 0.0)
    if problems:
        shown = "\n  ".join(problems[:20]) + (f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise UserError(f"each parameter must match exactly one rule, {len(problems)} do not:\n  {shown}")
    return jax.tree.unflatten(jax.tree.structure(params), values)


def add_coupled_decay(decay: Any) -> optax.GradientTransformation:
    """Adds ``decay * parameter`` to the gradient (L2 regularisation); ``decay`` is a tree of floats."""

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        return jax.tree.map(lambda g, p, d: g + d * p if d else g, updates, params, decay), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def sgd(decay: Any, *, momentum: float, nesterov: bool) -> optax.GradientTransformation:
    """SGD with coupled decay and momentum: ``m = momentum * m + g + decay * p`` (Sutskever et al. 2013; torch's)."""
    return optax.chain(add_coupled_decay(decay), optax.trace(decay=momentum, nesterov=nesterov))


OPTIMIZERS = ("sgd",)


def make_optimizer(
    params: Any, *, name: str, momentum: float, nesterov: bool, weight_decay: float, decay_rules: Rules
) -> optax.GradientTransformation:
    """The optimizer a config names; ``decay_rules`` maps parameter regexes to multiples of ``weight_decay``."""
    if name not in OPTIMIZERS:
        raise UserError(f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}")
    decay = jax.tree.map(lambda multiple: multiple * weight_decay, match_rules(params, decay_rules))
    return sgd(decay, momentum=momentum, nesterov=nesterov)
