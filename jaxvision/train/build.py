"""From a config to the parts of a run: data, network, optimizer, compiled steps."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxvision import augment, terminal
from jaxvision.augment.mix import Mix
from jaxvision.config import Config
from jaxvision.data import sources
from jaxvision.errors import UserError
from jaxvision.models.classifier import Classifier
from jaxvision.models.registry import ModelSpec, build_module, model_spec
from jaxvision.models.variables import init_variables, with_new_classifier
from jaxvision.ops.dtypes import default_dtype
from jaxvision.ops.process import run_one_at_a_time
from jaxvision.ops.program import compiler_options, prepare_train_step
from jaxvision.optim.groups import choose_groups
from jaxvision.optim.optimizers import make_optimizer
from jaxvision.optim.schedules import make_schedule
from jaxvision.options import LARGEST_INT
from jaxvision.run.console import notes
from jaxvision.run.weights import weights_source
from jaxvision.train import compilation, replicas, sharding
from jaxvision.train.distill import Teacher
from jaxvision.train.inputs import eval_batch_size, eval_image_size
from jaxvision.train.state import TrainState, create_state
from jaxvision.train.step import MixFn, make_eval_step, make_train_step
from jaxvision.train.workdir import run_class_differences
from jaxvision.weights import loading


@dataclasses.dataclass(frozen=True)
class Network:
    """The module of a run, the spec that has its mean and std, its number of classes and its compute dtype."""

    module: Classifier
    spec: ModelSpec
    num_classes: int
    dtype: Any


@dataclasses.dataclass(frozen=True)
class Lengths:
    """The run in steps."""

    total: int
    per_epoch: float
    warmup: int
    eval_every: int
    log_every: int
    save_every: int

    def logs(self, step: int) -> bool:
        """Whether a training record is due after ``step`` steps."""
        return step % self.log_every == 0 or self.evaluates(step)

    def evaluates(self, step: int) -> bool:
        """Whether an evaluation, with its checkpoint, is due."""
        return step > 0 and (step % self.eval_every == 0 or step == self.total)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint without evaluation is due."""
        return self.save_every > 0 and step % self.save_every == 0


def start_devices(config: Config) -> Mesh:
    """Joins the cluster if there is one, sets the compilation cache, and returns the mesh."""
    d = config.distributed
    if d.auto:
        jax.distributed.initialize()
    elif d.coordinator:
        # 10 s instead of 100: a peer that died should end the run within half a minute.
        jax.distributed.initialize(d.coordinator, d.processes, d.process, heartbeat_timeout_seconds=10)
    else:
        run_one_at_a_time()
    if config.compilation_cache:
        with notes(terminal.say if jax.process_index() == 0 else lambda text: None):
            compilation.use_cache()
    mesh = sharding.make_mesh()
    devices = jax.device_count()
    problems = [
        f"config.{field} = {value} is not divisible by the {devices} devices"
        for field, value in [("batch_size", config.batch_size), ("eval.batch_size", eval_batch_size(config))]
        if value % devices
    ]
    if config.batch_size % (devices * config.accumulate):
        problems.append(
            f"config.batch_size = {config.batch_size} is not divisible by "
            f"{devices} devices x accumulate {config.accumulate}"
        )
    if problems:
        raise UserError("\n".join(problems))
    replicas.check_devices(config, devices)
    return mesh


def lengths(config: Config, num_train: int) -> Lengths:
    """Epochs into steps; 350 epochs of ImageNet at 4096 are 109,475."""
    per_epoch = num_train / config.batch_size
    total = config.steps or math.ceil(config.epochs * per_epoch)
    if total > LARGEST_INT:
        raise UserError(
            f"config.epochs = {config.epochs:g} are {total} steps of batch {config.batch_size}: more than the "
            f"{LARGEST_INT} that a run can count"
        )
    return Lengths(
        total=total,
        per_epoch=per_epoch,
        warmup=min(round(config.schedule.warmup_epochs * per_epoch), total - 1),
        eval_every=max(1, math.ceil(config.eval.every_epochs * per_epoch)),
        log_every=config.log_every,
        save_every=config.checkpoint.every_steps,
    )


def length_notes(config: Config, run: Lengths, num_train: int) -> list[str]:
    """What is unusual about a run's length, in sentences for the user."""
    found = []
    asked = round(config.schedule.warmup_epochs * run.per_epoch)
    if asked >= run.total:
        found.append(
            f"the run of {run.total} steps ends within its warm-up of {asked} steps "
            f"(config.schedule.warmup_epochs = {config.schedule.warmup_epochs:g}): the learning rate only rises"
        )
    steps = 1 / max(1 - config.ema.decay, 1e-9)
    if not config.ema.warmup and 3 * steps > run.total:
        found.append(
            f"the EMA averages about {steps:.0f} steps (config.ema.decay = {config.ema.decay:g}), the run has "
            f"{run.total}: it stays near the weights of the start; set config.ema.warmup=true, or take the raw weights "
            "(--raw of the tools)"
        )
    size, evaluated = max((config.model.image_size, *config.progressive.image_size)), eval_image_size(config)
    if evaluated > 2 * size:
        found.append(
            f"images are {size} px in training and {evaluated} px in the evaluation: config.eval.image_size=0 "
            "evaluates at the size of training"
        )
    if config.batch_size > num_train:
        found.append(
            f"a batch of {config.batch_size} is larger than the training set of {num_train}: images repeat in it"
        )
    return found


def build_network(config: Config, source: sources.Source) -> Network:
    """The module for the data's classes, in the compute dtype of this backend."""
    m = config.model
    if m.num_classes and m.num_classes < source.num_classes:
        raise UserError(f"config.model.num_classes = {m.num_classes}, but the data has {source.num_classes} classes")
    dtype = jnp.dtype(default_dtype() if config.dtype == "auto" else config.dtype)
    num_classes = m.num_classes or source.num_classes
    module = build_module(
        m.name,
        num_classes=num_classes,
        image_size=m.image_size,
        dtype=dtype,
        drop_rate=m.drop_rate,
        drop_path_rate=m.drop_path_rate,
        drop_path_rule=None if m.drop_path_rule == "auto" else m.drop_path_rule,
        bn_momentum=m.bn_momentum,
        bn_groups=replicas.group_count(config, jax.device_count()) if config.batch_norm == "per_device" else 1,
        remat=m.remat,
        layer_scale=m.layer_scale or None,
        zero_last_scale=None if m.zero_last_scale else False,
    )
    if m.drop_block_rate and not module.takes_drop_block:
        raise UserError(f"config.model.drop_block_rate = {m.drop_block_rate}: {m.name} has no DropBlock, set it to 0")
    if module.takes_drop_block:
        module = module.clone(drop_block_kind=m.drop_block)
    built_for, evaluated = module.image_size, eval_image_size(config)
    if built_for is not None and config.progressive.image_size:
        raise UserError(f"config.progressive.image_size: {m.name} is built for one size and cannot grow its images")
    if built_for is not None and built_for != (evaluated, evaluated):
        raise UserError(
            f"{m.name} is built for {m.image_size} px and config.eval.image_size is {evaluated}: set it to 0; "
            "`jaxvision validate` evaluates a run's weights at another size"
        )
    return Network(module, model_spec(m.name), num_classes, dtype)


def initial_state(config: Config, network: Network, mesh: Mesh) -> tuple[TrainState, optax.GradientTransformation]:
    """The replicated state before the first step, and its optimizer."""
    variables = init_variables(network.module, jax.random.key(config.seed))
    groups = choose_groups(config.optimizer.layer_groups, type(network.module))
    optimizer = make_optimizer(config.optimizer, variables["params"], groups)
    return sharding.replicate(mesh, create_state(variables, optimizer)), optimizer


def load_initial_weights(
    config: Config, network: Network, state: TrainState, mesh: Mesh, class_names: Sequence[str]
) -> TrainState:
    """The state before the first step with the weights of ``config.model.weights``; the EMA starts there, too.

    A file, as :func:`jaxvision.load_weights` takes it, or the workdir of a run, whose EMA or raw weights are
    taken (``config.model.weights_ema``). A classifier for another number of classes stays fresh. A ``UserWarning`` says
    where one is kept that a run trained for other classes than ``class_names``, those of the data, or for the same in
    another order.
    """
    source = weights_source(config.model.weights, network.spec, ema=config.model.weights_ema)
    state_dict = loading.read(network.module, source)
    if loading.classes(network.module, 3, state_dict) is None and (
        differ := run_class_differences(config.model.weights, class_names)
    ):
        warnings.warn(f"the classifier of {config.model.weights} is kept, it was trained for {differ}", stacklevel=2)
    params = with_new_classifier(network.module, sharding.fetch(state.params), 3)
    fresh = {"params": params, "batch_stats": sharding.fetch(state.batch_stats)}
    loaded = loading.fill(network.module, fresh, 3, state_dict, fresh_classifier=True)
    new = sharding.replicate(mesh, (loaded, loaded))
    return state.replace(
        params=new[0]["params"],
        batch_stats=new[0]["batch_stats"],
        ema_params=new[1]["params"],
        ema_batch_stats=new[1]["batch_stats"],
    )


def augment_program(config: Config, network: Network, mesh: Mesh) -> Callable[[jax.Array, np.int32], jax.Array]:
    """The jitted augmentation: images uint8 (B, H, W, 3) and a step to the network's input."""
    spec = network.spec
    program = augment.make_augment(config.augment, seed=config.seed, mean=spec.mean, std=spec.std, dtype=network.dtype)
    return jax.jit(program, out_shardings=sharding.batch_sharded(mesh))


def train_program(
    config: Config,
    network: Network,
    optimizer: optax.GradientTransformation,
    run: Lengths,
    mesh: Mesh,
    teacher: Teacher | None = None,
) -> Callable:
    """The jitted train step ``(state, images, labels, teacher's variables)``: state donated, batch sharded."""
    mix = make_mix(config)
    step = train_step(config, network, optimizer, run, mix=mix if mix else None, teacher=teacher)
    full, cut = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    return jax.jit(
        prepare_train_step(step),
        in_shardings=(full, cut, cut, full),
        out_shardings=full,
        donate_argnums=0,
        compiler_options=compiler_options(attends=network.module.attends, train=True),
    )


def train_step(
    config: Config,
    network: Network,
    optimizer: optax.GradientTransformation,
    run: Lengths,
    *,
    mix: MixFn | None,
    teacher: Teacher | None = None,
) -> Callable:
    """The config's step, not jitted; see :func:`jaxvision.train.step.make_train_step`."""
    return make_train_step(
        config,
        network.module,
        optimizer,
        run_schedule(config, run),
        mix=mix,
        distill=teacher.loss if teacher else None,
        drop_block=drop_block_schedule(config, run) if config.model.drop_block_rate else None,
    )


def run_schedule(config: Config, run: Lengths) -> optax.Schedule:
    """The learning rate of a run's steps."""
    return make_schedule(
        config.schedule,
        config.optimizer.learning_rate,
        total_steps=run.total,
        warmup_steps=run.warmup,
        steps_per_epoch=run.per_epoch,
    )


def drop_block_schedule(config: Config, run: Lengths) -> optax.Schedule:
    """The rate of DropBlock of a run's steps, which rises linearly to that of the config.

    ResNeSt's code sets it before epoch e of E to rate * (e + 1) / E (``resnest/gluon/dropblock.py``).
    """
    rate, epochs = config.model.drop_block_rate, run.total / run.per_epoch
    if config.model.drop_block == "timm":
        return optax.linear_schedule(0.0, rate, run.total)
    return lambda step: rate * jnp.minimum((jnp.floor(step / run.per_epoch + 1e-4) + 1) / epochs, 1.0)


def make_mix(config: Config) -> Mix:
    """Mixup and CutMix of a config; false where it has neither."""
    return augment.make_mix(config.augment, groups=replicas.group_count(config, jax.device_count()))


def eval_program(network: Network, mesh: Mesh) -> Callable:
    """The jitted evaluation step over uint8 batches."""
    step = make_eval_step(network.module)
    normalise = augment.make_normalise(mean=network.spec.mean, std=network.spec.std, dtype=network.dtype)

    def program(params: Any, stats: Any, batch: dict[str, jax.Array], sums: Any) -> Any:
        return step(params, stats, normalise(batch["image"]), batch["label"], batch["mask"], sums)

    options = compiler_options(attends=network.module.attends)
    return jax.jit(program, out_shardings=sharding.replicated(mesh), compiler_options=options)
