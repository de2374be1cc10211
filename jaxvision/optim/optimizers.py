"""Optimizers equal to the recipes' own, from optax parts, and regex parameter groups.

Every optimizer is an ``optax.GradientTransformationExtraArgs`` whose ``update`` takes
``learning_rate``: the schedule follows the step counter of the run and nothing else, and
TensorFlow's RMSProp needs the rate inside its momentum. Updates are added to parameters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxvision.errors import UserError, did_you_mean

Rules = Sequence[tuple[str, float]]
Optimizer = optax.GradientTransformationExtraArgs


def parameter_names(params: Any) -> list[str]:
    """What rules are matched with, in tree order: dotted name (timm's key) and rank, ``layer1.0.conv1.weight:4d``."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [f"{'.'.join(entry.key for entry in path)}:{leaf.ndim}d" for path, leaf in leaves]


def match_rules(params: Any, rules: Rules, what: str = "weight-decay rule") -> Any:
    """A tree like ``params`` with, for each leaf, the value of the one rule whose regex matches its whole name.

    Raises:
      UserError: listing every parameter that matches no rule or several.
    """
    compiled = []
    for pattern, value in rules:
        try:
            compiled.append((re.compile(pattern), value))
        except re.error as error:
            raise UserError(f"{what} {pattern!r} is no regular expression: {error}") from error
    problems, values = [], []
    for name in parameter_names(params):
        matching = [(pattern.pattern, value) for pattern, value in compiled if pattern.fullmatch(name)]
        if len(matching) != 1:
            problems.append(f"{name}: matched by {[pattern for pattern, _ in matching] or 'no rule'}")
        values.append(matching[0][1] if matching else 0.0)
    if problems:
        shown = "\n  ".join(problems[:20]) + (f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise UserError(f"each parameter must match exactly one {what}, {len(problems)} do not:\n  {shown}")
    return jax.tree.unflatten(jax.tree.structure(params), values)


def add_decay(decay: Any) -> optax.GradientTransformation:
    """Adds ``decay * parameter``; ``decay`` is a tree of floats.

    In front of an optimizer this is L2 regularisation (coupled), behind its direction AdamW's (decoupled).
    """

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        return jax.tree.map(lambda g, p, d: g + d * p if d else g, updates, params, decay), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_global_norm(limit: float) -> optax.GradientTransformation:
    """Scales all gradients by ``min(1, limit / (norm + 1e-6))`` (torch's ``clip_grad_norm_``)."""

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        factor = jnp.minimum(1.0, limit / (optax.tree.norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * factor, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_adaptive(factor: float, rules: Rules, eps: float = 1e-3) -> optax.GradientTransformation:
    """Adaptive gradient clipping per output unit (Brock et al. 2021, arXiv 2102.06171; timm's ``adaptive_clip_grad``).

    A unit's gradient norm is cut to ``factor * max(norm of its weights, eps)``. Vectors are one
    unit. ``rules`` maps parameter regexes to 1 (clipped) or 0: timm leaves the classifier out.
    """

    def norm(x: jax.Array) -> jax.Array:
        axes = tuple(range(1, x.ndim)) if x.ndim > 1 else None
        return jnp.sqrt(jnp.sum(jnp.square(x), axes, keepdims=True))

    def clip(g: jax.Array, p: jax.Array, chosen: float) -> jax.Array:
        if not chosen:
            return g
        limit, size = factor * jnp.maximum(norm(p), eps), norm(g)
        return jnp.where(size < limit, g, g * (limit / jnp.maximum(size, 1e-6)))

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        return jax.tree.map(clip, updates, params, match_rules(params, rules, "clipping rule")), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _descend(direction: optax.GradientTransformation) -> Optimizer:
    """``-learning_rate * direction``."""
    return optax.chain(direction, _scale_by_rate())


def _scale_by_rate() -> Optimizer:
    def update(
        updates: Any, state: optax.EmptyState, params: Any = None, *, learning_rate: Any, **_: Any
    ) -> tuple[Any, optax.EmptyState]:
        return jax.tree.map(lambda u: -learning_rate * u, updates), state

    return Optimizer(lambda params: optax.EmptyState(), update)


def sgd(decay: Any, *, momentum: float, nesterov: bool) -> Optimizer:
    """SGD with coupled decay and momentum: ``m = momentum * m + g + decay * p`` (Sutskever et al. 2013; torch's)."""
    return _descend(optax.chain(add_decay(decay), optax.trace(decay=momentum, nesterov=nesterov)))


def adamw(decay: Any, *, b1: float, b2: float, eps: float, first_moment: Any = None) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2017), decay times learning rate as in torch; ``first_moment`` is its dtype."""
    return _descend(optax.chain(optax.scale_by_adam(b1, b2, eps, mu_dtype=first_moment), add_decay(decay)))


class MomentumState(NamedTuple):
    """Buffers of :func:`rmsprop_tf`."""

    square: Any
    momentum: Any


def rmsprop_tf(decay: Any, *, momentum: float, rho: float, eps: float) -> Optimizer:
    """RMSProp as TensorFlow 1 computes it: epsilon inside the root, ones at the start, the rate in the momentum.

    ``s = rho s + (1 - rho) g^2; m = momentum m + lr g / sqrt(s + eps); p -= m`` with coupled decay.
    Source: tf.train.RMSPropOptimizer; timm's ``RMSpropTF``.
    """

    def init(params: Any) -> MomentumState:
        return MomentumState(jax.tree.map(jnp.ones_like, params), jax.tree.map(jnp.zeros_like, params))

    def update(
        updates: Any, state: MomentumState, params: Any = None, *, learning_rate: Any, **_: Any
    ) -> tuple[Any, MomentumState]:
        updates = jax.tree.map(lambda g, p, d: g + d * p if d else g, updates, params, decay)
        square = jax.tree.map(lambda s, g: s + (1 - rho) * (jnp.square(g) - s), state.square, updates)
        buffer = jax.tree.map(
            lambda m, g, s: momentum * m + learning_rate * g * jax.lax.rsqrt(s + eps), state.momentum, updates, square
        )
        return jax.tree.map(jnp.negative, buffer), MomentumState(square, buffer)

    return Optimizer(init, update)


def _ratio(weights: jax.Array, update: jax.Array, coefficient: float, decay: float, eps: float) -> jax.Array:
    """``coefficient |w| / (|u| + decay |w| + eps)``; 1 where either norm is zero."""
    w, u = jnp.linalg.norm(weights.reshape(-1)), jnp.linalg.norm(update.reshape(-1))
    safe = jnp.where(u > 0, u + decay * w + eps, 1.0)
    return jnp.where((w > 0) & (u > 0), coefficient * w / safe, 1.0)


def lamb(decay: Any, *, b1: float, b2: float, eps: float, clip: float = 1.0) -> Optimizer:
    """LAMB (You et al. 2019, arXiv 1904.00962) as apex and timm compute it.

    Gradients are first divided by ``max(1, global norm / clip)``. Where the decay is zero there
    is no trust ratio; optax's own ``lamb`` does neither.
    """

    def clipped(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        factor = 1.0 / jnp.maximum(optax.tree.norm(updates) / clip, 1.0)
        return jax.tree.map(lambda g: g * factor, updates), state

    def trusted(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        ratio = lambda u, p, d: u * _ratio(p, u, 1.0, 0.0, 0.0) if d else u  # noqa: E731
        return jax.tree.map(ratio, updates, params, decay), state

    empty = lambda params: optax.EmptyState()  # noqa: E731
    return _descend(
        optax.chain(
            optax.GradientTransformation(empty, clipped),
            optax.scale_by_adam(b1, b2, eps),
            add_decay(decay),
            optax.GradientTransformation(empty, trusted),
        )
    )


def lars(decay: Any, *, momentum: float, nesterov: bool, coefficient: float, eps: float) -> Optimizer:
    """LARS (You et al. 2017, arXiv 1708.03888) as timm computes it: no trust ratio where the decay is zero."""

    def trusted(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        adapt = lambda g, p, d: (g + d * p) * _ratio(p, g, coefficient, d, eps) if d else g  # noqa: E731
        return jax.tree.map(adapt, updates, params, decay), state

    adapted = optax.GradientTransformation(lambda params: optax.EmptyState(), trusted)
    return _descend(optax.chain(adapted, optax.trace(decay=momentum, nesterov=nesterov)))


def scale_updates(multiples: Any) -> optax.GradientTransformation:
    """Multiplies each parameter's update: a learning rate per parameter, decay included, as torch's groups."""

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        return jax.tree.map(lambda u, m: u * m if m != 1 else u, updates, multiples), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


OPTIMIZERS = ("sgd", "adamw", "rmsprop_tf", "lamb", "lars")


def make_optimizer(
    params: Any,
    *,
    name: str,
    weight_decay: float,
    decay_rules: Rules,
    momentum: float = 0.9,
    nesterov: bool = False,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    rho: float = 0.9,
    trust_coefficient: float = 0.001,
    first_moment: str = "float32",
    clip_norm: float = 0.0,
    clip_adaptive_factor: float = 0.0,
    clip_rules: Rules = ((r".*", 1.0),),
    rate_multiples: Any = None,
) -> Optimizer:
    """The optimizer a config names.

    Args:
      params: for their names and shapes.
      name: of :data:`OPTIMIZERS`.
      weight_decay: coupled in sgd, rmsprop_tf and lars, decoupled (times the learning rate) in adamw and lamb.
      decay_rules: parameter regexes to multiples of ``weight_decay``.
      momentum, nesterov: of sgd and lars; ``momentum`` also of rmsprop_tf.
      b1, b2: of adamw and lamb.
      eps: of all but sgd.
      rho: of rmsprop_tf.
      trust_coefficient: of lars.
      first_moment: dtype of adamw's.
      clip_norm: global gradient norm; 0 for none. lamb clips at 1 by itself.
      clip_adaptive_factor, clip_rules: see :func:`clip_adaptive`; 0 for none.
      rate_multiples: tree like ``params`` of multiples of the learning rate (None: all 1); where it is 0 the
        parameter stays and its gradient counts in no norm.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"unknown optimizer {name!r}.{did_you_mean(name, OPTIMIZERS)} Known: {', '.join(OPTIMIZERS)}")
    decay = jax.tree.map(lambda multiple: multiple * weight_decay, match_rules(params, decay_rules))
    parts: list[optax.GradientTransformation] = []
    multiples = jax.tree.leaves(rate_multiples) if rate_multiples is not None else []
    if 0.0 in multiples:
        parts.append(scale_updates(jax.tree.map(lambda m: float(m != 0), rate_multiples)))
    if clip_norm:
        parts.append(clip_global_norm(clip_norm))
    if clip_adaptive_factor:
        parts.append(clip_adaptive(clip_adaptive_factor, clip_rules))
    if name == "sgd":
        parts.append(sgd(decay, momentum=momentum, nesterov=nesterov))
    elif name == "adamw":
        parts.append(adamw(decay, b1=b1, b2=b2, eps=eps, first_moment=jnp.dtype(first_moment)))
    elif name == "rmsprop_tf":
        parts.append(rmsprop_tf(decay, momentum=momentum, rho=rho, eps=eps))
    elif name == "lamb":
        parts.append(lamb(decay, b1=b1, b2=b2, eps=eps))
    else:
        parts.append(lars(decay, momentum=momentum, nesterov=nesterov, coefficient=trust_coefficient, eps=eps))
    if any(m != 1 for m in multiples):
        parts.append(scale_updates(rate_multiples))
    return optax.with_extra_args_support(optax.chain(*parts))
