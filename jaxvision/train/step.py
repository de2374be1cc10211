"""The train and evaluation steps: pure functions of pytrees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxvision.config import Config
from jaxvision.optim.ema import ema_rate, ema_update
from jaxvision.optim.losses import make_loss, smoothed_one_hot
from jaxvision.train.metrics import EVAL_METRICS, TRAIN_METRICS, Sums, add_sums, batch_sums, metric_values
from jaxvision.train.replicas import split_microbatches
from jaxvision.train.state import TrainState

Report = dict[str, Any]
DistillFn = Callable[[jax.Array, jax.Array, jax.Array, Any], jax.Array]
MixFn = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
MIXING = 2  # folded into a step's key for the mixing's draws


def step_key(seed: int, step: jax.Array | int) -> jax.Array:
    """The PRNG key of a train step; Mixup and CutMix of a microbatch use it folded with :data:`MIXING`."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), 1)


def make_train_step(
    config: Config,
    module: nn.Module,
    optimizer: optax.GradientTransformationExtraArgs,
    schedule: optax.Schedule,
    *,
    mix: MixFn | None = None,
    distill: DistillFn | None = None,
    drop_block: optax.Schedule | None = None,
) -> Callable[..., tuple[TrainState, Report]]:
    """``train_step(state, images, labels, teacher=None) -> (state, report)``.

    A step whose loss, gradients or new BN statistics are not finite changes nothing but
    the counters. After ``config.max_bad_steps`` of them in a row the count no longer falls, so
    that the loop, which reads it a few steps later, does not miss it. With ``config.accumulate``
    BN computes its statistics over each microbatch.

    Args:
      config: of which the step reads seed, loss, ema, accumulate, the groups of a batch (replicas), log_every and
        max_bad_steps.
      module: the network; images are its input.
      optimizer: of :func:`jaxvision.optim.optimizers.make_optimizer`.
      schedule: learning rate of a step.
      mix: ``mix(key, images, targets)``, for example :class:`jaxvision.augment.mix.Mix`; each microbatch by itself.
      distill: of :class:`jaxvision.train.distill.Teacher`, whose variables are the last argument. A distilled ViT
        learns from the labels with its first classifier and from the teacher with its second.
      drop_block: rate of a step, for networks with DropBlock.

    Returns:
      The step. Its report holds "metrics" (sums since the last multiple of ``config.log_every``), "learning_rate",
      "bad_total" and "bad_in_row".
    """
    loss, accumulate = make_loss(config.loss), config.accumulate
    heads = {"output": "heads"} if distill is not None and module.distilled else {}

    def loss_fn(
        params: Any, stats: Any, images: jax.Array, labels: jax.Array, key: jax.Array, step: jax.Array, teacher: Any
    ) -> tuple[jax.Array, Any]:
        dropout, drop_path = jax.random.split(key)
        targets = smoothed_one_hot(labels, module.num_classes, config.loss.label_smoothing)
        if mix is not None:
            images, targets = mix(jax.random.fold_in(key, MIXING), images, targets)
        scheduled = {} if drop_block is None else {"drop_block": drop_block(step)}
        logits, updated = module.apply(
            {"params": params, "batch_stats": stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout, "drop_path": drop_path},
            **heads,
            **scheduled,
        )
        of_labels, of_teacher = logits if heads else (logits, logits)
        losses = loss(of_labels, targets)
        if distill is not None:
            losses = distill(losses, of_teacher, images, teacher)
        logits = (of_labels + of_teacher) / 2 if heads else logits
        values = metric_values(TRAIN_METRICS, logits, labels, losses)
        return losses.mean(), (updated.get("batch_stats", {}), batch_sums(values, jnp.ones(labels.shape, bool)))

    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)

    def gradients(state: TrainState, images: jax.Array, labels: jax.Array, key: jax.Array, teacher: Any) -> tuple:
        if accumulate == 1:
            (value, (stats, sums)), grads = grad_fn(
                state.params, state.batch_stats, images, labels, key, state.step, teacher
            )
            return value, grads, stats, sums

        def body(carry: tuple, part: tuple) -> tuple:
            total, grads, stats = carry
            index, images, labels = part
            own = jax.random.fold_in(key, index)
            (value, (stats, sums)), new = grad_fn(state.params, stats, images, labels, own, state.step, teacher)
            return (total + value, jax.tree.map(jnp.add, grads, new), stats), sums

        start = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, state.params), state.batch_stats)
        parts = (jnp.arange(accumulate), split_microbatches(config, images), split_microbatches(config, labels))
        (total, grads, stats), sums = jax.lax.scan(body, start, parts)
        mean = lambda x: x / accumulate  # noqa: E731
        return mean(total), jax.tree.map(mean, grads), stats, jax.tree.map(lambda x: x.sum(0), sums)

    def train_step(
        state: TrainState, images: jax.Array, labels: jax.Array, teacher: Any = None
    ) -> tuple[TrainState, Report]:
        key = step_key(config.seed, state.step)
        value, grads, stats, sums = gradients(state, images, labels, key, teacher)

        learning_rate = jnp.asarray(schedule(state.step), jnp.float32)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params, learning_rate=learning_rate)
        params = jax.tree.map(jnp.add, state.params, updates)
        rate = ema_rate(config.ema, state.step)
        ema_params = ema_update(state.ema_params, params, rate)
        ema_stats = ema_update(state.ema_batch_stats, stats, rate)

        finite = jnp.isfinite(value) & _all_finite((grads, stats))
        new = (params, stats, opt_state, ema_params, ema_stats)
        old = (state.params, state.batch_stats, state.opt_state, state.ema_params, state.ema_batch_stats)
        params, stats, opt_state, ema_params, ema_stats = _where(finite, new, old)

        bad = jnp.logical_not(finite).astype(jnp.int32)
        stuck = state.bad_in_row >= config.max_bad_steps
        sums = _where(finite, sums, jax.tree.map(jnp.zeros_like, sums))
        starts = state.step % config.log_every == 0
        metrics = add_sums(_where(starts, jax.tree.map(jnp.zeros_like, state.metrics), state.metrics), sums)
        state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=stats,
            opt_state=opt_state,
            ema_params=ema_params,
            ema_batch_stats=ema_stats,
            metrics=metrics,
            bad_total=state.bad_total + bad,
            bad_in_row=jnp.where(stuck, state.bad_in_row, (state.bad_in_row + bad) * bad),
        )
        report = {
            "metrics": metrics,
            "learning_rate": learning_rate,
            "bad_total": state.bad_total,
            "bad_in_row": state.bad_in_row,
        }
        return state, report

    return train_step


def make_eval_step(module: nn.Module) -> Callable[[Any, Any, jax.Array, jax.Array, jax.Array, Sums], Sums]:
    """``eval_step(params, batch_stats, images, labels, mask, sums) -> sums`` with :data:`EVAL_METRICS` added."""

    def eval_step(params: Any, stats: Any, images: jax.Array, labels: jax.Array, mask: jax.Array, sums: Sums) -> Sums:
        logits = module.apply({"params": params, "batch_stats": stats}, images, train=False)
        return add_sums(sums, batch_sums(metric_values(EVAL_METRICS, logits, labels), mask))

    return eval_step


def _all_finite(tree: Any) -> jax.Array:
    # Through a cumulative sum, which XLA does not fuse into its consumers: a plain reduction
    # over several hundred leaves is copied into the select of every one of them (130 s of
    # compilation instead of 13 for ResNet-RS-50 on CPU).
    largest = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)])
    return jnp.isfinite(jax.lax.cumsum(largest)[-1])


def _where(condition: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
