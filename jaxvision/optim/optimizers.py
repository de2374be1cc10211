"""Optimizers as the recipes' sources compute them, built from optax.

An optimizer is a function of ``config.optimizer`` and of a tree with the weight decay of each parameter; a line of
:data:`OPTIMIZERS` gives it the name that ``config.optimizer.name`` selects. It returns an
``optax.GradientTransformationExtraArgs`` whose ``update`` takes ``learning_rate``, because the schedule depends on the
step counter of the run alone, and TensorFlow's RMSProp needs the rate inside its momentum. Updates are added to
parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxvision.models.classifier import LayerGroups
from jaxvision.optim.groups import LAYER_GROUPS, rate_multiples
from jaxvision.optim.rules import ALL, KERNELS_ONLY, Rules, match_rules, regex_problem, rules_problem
from jaxvision.options import option

Optimizer = optax.GradientTransformationExtraArgs
LAMB_CLIP = 1.0  # global gradient norm


def add_decay(decay: Any) -> optax.GradientTransformation:
    """Adds ``decay * parameter``; ``decay`` is a tree of floats.

    Before an optimizer's moments this is L2 regularisation (coupled), after them AdamW's decay (decoupled).
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

    A unit's gradient norm is limited to ``factor * max(norm of its weights, eps)``. A vector is one unit. ``rules`` has
    pairs of a parameter regex and 1 (clipped) or 0 (not): timm does not clip the classifier.
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


def _momentum(config: OptimizerConfig) -> optax.GradientTransformation:
    return optax.trace(decay=config.momentum, nesterov=config.nesterov)


def sgd(config: OptimizerConfig, decay: Any) -> Optimizer:
    """SGD with coupled decay and momentum: ``m = momentum * m + g + decay * p`` (Sutskever et al. 2013; torch's)."""
    return _descend(optax.chain(add_decay(decay), _momentum(config)))


def adamw(config: OptimizerConfig, decay: Any) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2017), decay times learning rate as in torch."""
    adam = optax.scale_by_adam(config.b1, config.b2, config.eps, mu_dtype=jnp.dtype(config.first_moment))
    return _descend(optax.chain(adam, add_decay(decay)))


class MomentumState(NamedTuple):
    """Buffers of :func:`rmsprop_tf`."""

    square: Any
    momentum: Any


def rmsprop_tf(config: OptimizerConfig, decay: Any) -> Optimizer:
    """RMSProp as TensorFlow 1 computes it: epsilon inside the root, ones at the start, the rate in the momentum.

    ``s = rho s + (1 - rho) g^2; m = momentum m + lr g / sqrt(s + eps); p -= m`` with coupled decay.
    Source: tf.train.RMSPropOptimizer; timm's ``RMSpropTF``.
    """
    momentum, rho, eps = config.momentum, config.rho, config.eps

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


def lamb(config: OptimizerConfig, decay: Any) -> Optimizer:
    """LAMB (You et al. 2019, arXiv 1904.00962) as apex and timm compute it.

    Gradients are first divided by ``max(1, global norm)``. Where the decay is zero there is no trust ratio; optax's
    own ``lamb`` does neither.
    """

    def clipped(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        factor = 1.0 / jnp.maximum(optax.tree.norm(updates) / LAMB_CLIP, 1.0)
        return jax.tree.map(lambda g: g * factor, updates), state

    def trusted(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        ratio = lambda u, p, d: u * _ratio(p, u, 1.0, 0.0, 0.0) if d else u  # noqa: E731
        return jax.tree.map(ratio, updates, params, decay), state

    empty = lambda params: optax.EmptyState()  # noqa: E731
    return _descend(
        optax.chain(
            optax.GradientTransformation(empty, clipped),
            optax.scale_by_adam(config.b1, config.b2, config.eps),
            add_decay(decay),
            optax.GradientTransformation(empty, trusted),
        )
    )


def lars(config: OptimizerConfig, decay: Any) -> Optimizer:
    """LARS (You et al. 2017, arXiv 1708.03888) as timm computes it: no trust ratio where the decay is zero."""
    coefficient, eps = config.trust_coefficient, config.eps

    def trusted(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        adapt = lambda g, p, d: (g + d * p) * _ratio(p, g, coefficient, d, eps) if d else g  # noqa: E731
        return jax.tree.map(adapt, updates, params, decay), state

    adapted = optax.GradientTransformation(lambda params: optax.EmptyState(), trusted)
    return _descend(optax.chain(adapted, _momentum(config)))


def scale_updates(multiples: Any) -> optax.GradientTransformation:
    """Multiplies each parameter's update: a learning rate per parameter, decay included, as torch's groups."""

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        return jax.tree.map(lambda u, m: u * m if m != 1 else u, updates, multiples), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


OPTIMIZERS: dict[str, Callable[[OptimizerConfig, Any], Optimizer]] = {
    "sgd": sgd,
    "adamw": adamw,
    "rmsprop_tf": rmsprop_tf,
    "lamb": lamb,
    "lars": lars,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Update rule, learning rate, weight decay and clipping."""

    name: str = option("sgd", "update rule", choices=OPTIMIZERS)
    learning_rate: float = option(0.1, "highest learning rate, for the whole batch", low=0, high=1e6)
    momentum: float = option(0.9, "share of the momentum kept per step; sgd, lars, rmsprop_tf", low=0, below=1)
    nesterov: bool = option(True, "Nesterov's momentum; sgd, lars")
    b1: float = option(0.9, "share of the first moment kept per step; adamw, lamb", low=0, below=1)
    b2: float = option(0.999, "share of the second moment kept per step; adamw, lamb", low=0, below=1)
    eps: float = option(1e-8, "added to the denominator; all but sgd", low=0, high=1)
    rho: float = option(0.9, "share of the squared gradient's moving average kept per step; rmsprop_tf", low=0, below=1)
    trust_coefficient: float = option(0.001, "factor of the trust ratio; lars", low=0, high=1e6)
    first_moment: str = option("float32", "dtype of the first moment; adamw", choices=("float32", "bfloat16"))
    clip_norm: float = option(
        0.0, "largest global norm of the gradient; 0: any. lamb always clips at 1", low=0, high=1e6
    )
    clip_adaptive: float = option(
        0.0,
        "adaptive clipping: largest norm of an output unit's gradient over its weights' norm; 0: any",
        low=0,
        high=1e6,
    )
    clip_rules: Rules = option(
        ALL, "which parameters adaptive clipping covers: (regex, 1 or 0) pairs", low=0, high=1, check=rules_problem
    )
    rate_rules: Rules = option(
        ALL, "(regex, multiple of the learning rate) pairs", low=0, high=1e6, check=rules_problem
    )
    layer_decay: float = option(
        1.0, "multiple of the learning rate from one layer to the layer before it", above=0, high=1
    )
    layer_groups: str = option(
        "timm",
        'layers that layer_decay counts: "timm": every block; "paper": as the paper\'s code groups them (ConvNeXt: 12)',
        choices=LAYER_GROUPS,
    )
    freeze: str = option(
        "",
        'regex of whole names such as "layer1.0.conv1.weight:4d" that do not learn; empty: none',
        check=regex_problem,
    )
    weight_decay: float = option(
        1e-4,
        "added to the gradient in sgd, rmsprop_tf and lars; times the learning rate in adamw and lamb",
        low=0,
        high=1e6,
    )
    decay_rules: Rules = option(
        KERNELS_ONLY,
        "(regex, multiple of weight_decay) pairs; each parameter must match exactly one",
        low=0,
        high=1e6,
        check=rules_problem,
    )


def make_optimizer(config: OptimizerConfig, params: Any, groups: LayerGroups | None = None) -> Optimizer:
    """The optimizer of a config for parameters of these names and shapes.

    Gradients of frozen parameters are left out of every norm.

    Args:
      config: see :class:`OptimizerConfig`.
      params: nested dicts of arrays.
      groups: the layers of the network's family, see :func:`~jaxvision.optim.groups.choose_groups`; needed for
        ``config.layer_decay``.

    Raises:
      UserError: rules that do not match each parameter exactly once, or a regex that freezes none or all.
    """
    decay = jax.tree.map(lambda multiple: multiple * config.weight_decay, match_rules(params, config.decay_rules))
    rates = rate_multiples(params, config.rate_rules, groups=groups, decay=config.layer_decay, freeze=config.freeze)
    stages: list[optax.GradientTransformation] = []
    if 0.0 in jax.tree.leaves(rates):
        stages.append(scale_updates(jax.tree.map(lambda m: float(m != 0), rates)))
    if config.clip_norm:
        stages.append(clip_global_norm(config.clip_norm))
    if config.clip_adaptive:
        stages.append(clip_adaptive(config.clip_adaptive, config.clip_rules))
    stages.append(OPTIMIZERS[config.name](config, decay))
    if any(m != 1 for m in jax.tree.leaves(rates)):
        stages.append(scale_updates(rates))
    return optax.with_extra_args_support(optax.chain(*stages))
