"""Exact evaluation: every image once, padding masked, raw and EMA weights on the same batches; and ``mode=eval``."""

from __future__ import annotations

import collections
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from jaxvision.config import Config
from jaxvision.data import sources
from jaxvision.data.classes import absent_classes
from jaxvision.data.loader import Interrupted, Loader
from jaxvision.errors import UserError
from jaxvision.files import replace_text
from jaxvision.models.variables import init_variables
from jaxvision.run.checkpoint import Checkpointer
from jaxvision.run.console import Console
from jaxvision.run.preemption import Preemption, Watchdog
from jaxvision.run.weights import another_network, read_class_names, saved_model, trained_class_names
from jaxvision.train import build, inputs, sharding
from jaxvision.train.metrics import EVAL_METRICS, compute, zero_sums
from jaxvision.train.state import TrainState, create_state, flatten, unflatten

AHEAD = 2  # batches that the host may be ahead of the device


def evaluate(
    program: Callable, loader: Loader, mesh: Mesh, state: TrainState, console: Console, watchdog: Watchdog
) -> dict[str, float]:
    """Evaluates the raw weights and their EMA on the whole set.

    Args:
      program: of :func:`jaxvision.train.build.eval_program`.
      loader: of the evaluation set.
      mesh: of the run.
      state: whose weights are evaluated.
      console: shows the progress.
      watchdog: fed after every batch.

    Returns:
      The values of :data:`EVAL_METRICS`, those of the EMA with "ema_" before the name, and the number of examples.

    Raises:
      Interrupted: the loader was asked to stop.
    """
    sums = {name: sharding.replicate(mesh, zero_sums(EVAL_METRICS)) for name in ("raw", "ema")}
    steps = loader.plan.eval_steps
    console.evaluating(0, steps)  # the first batch waits for the compilation
    watchdog.waits_for("the first evaluation batch")
    unfinished: collections.deque[Any] = collections.deque()
    for i, batch in enumerate(inputs.step_stream(loader, mesh, 0, steps)):
        sums["raw"] = program(state.params, state.batch_stats, batch, sums["raw"])
        sums["ema"] = program(state.ema_params, state.ema_batch_stats, batch, sums["ema"])
        # JAX would queue up to 32 programs and return: their batches fill the memory, and a signal waits for them.
        unfinished.append(sums["ema"])
        watchdog.waits_for(f"evaluation batch {i + 2 - len(unfinished)} of {steps} on the device")
        if len(unfinished) > AHEAD:
            jax.block_until_ready(unfinished.popleft())
        console.evaluating(i + 1, steps)
        watchdog.feed()
        if i + 1 < steps:
            watchdog.waits_for(f"the images of evaluation batch {i + 2} of {steps}")
    watchdog.waits_for("the last evaluation batches on the device")
    fetched = sharding.fetch(sums)
    (counted,) = {int(sums["count"]) for metrics in fetched.values() for sums in metrics.values()}
    if counted != loader.plan.num_examples:
        raise RuntimeError(f"evaluation counted {counted} of {loader.plan.num_examples} examples")
    averages = {f"ema_{name}": value for name, value in compute(EVAL_METRICS, fetched["ema"]).items()}
    return compute(EVAL_METRICS, fetched["raw"]) | averages | {"examples": float(counted)}


def run(config: Config, workdir: Path) -> int:
    """Evaluates a workdir's newest checkpoint that is not damaged, writes ``evaluation.json``; returns the exit status.

    Raises:
      UserError: there is no usable checkpoint, or it is of another model.
    """
    mesh = build.start_devices(config)
    console = Console(enabled=jax.process_index() == 0, total=1)
    folder = workdir.absolute() / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"no checkpoints in {workdir}: train first, or name the run with --workdir")
    if (saved := saved_model(workdir)) is not None and another_network(saved, config.model.name):
        raise UserError(f"{workdir} is a run of {saved}, not of {config.model.name}: write --config {workdir}")
    checkpoints = Checkpointer(folder, keep=config.checkpoint.keep, warn=console.warn, read_only=True)
    names = read_class_names(workdir)
    if names is None and (restored := checkpoints.restore({}, subset=True)):  # the file is lost
        names = trained_class_names(workdir, restored[1])
    source = inputs.open_eval(config)
    if names:
        where = f"the run of {workdir}"
        note = absent_classes(source.class_names, names, where)
        source = sources.Relabelled(source, names, where=where)
        if note:
            console.line(f"note: {note}")
    network = build.build_network(config, source)
    # Nothing of the optimizer is needed.
    state = create_state(init_variables(network.module, jax.random.key(0)), optax.identity())
    restored = checkpoints.restore(flatten(state), subset=True)
    if restored is None:
        raise UserError(f"no checkpoints in {workdir}: train first, or name the run with --workdir")
    checkpoints.close()
    flat, meta, step = restored
    trained_class_names(workdir, meta)  # refuses a file that was changed
    state = sharding.replicate(mesh, unflatten(state, flat))
    preemption, watchdog = Preemption(), Watchdog(config.watchdog_seconds)
    preemption.say, watchdog.warn = console.notice, console.warn
    watchdog.feed()
    loader = inputs.eval_loader(config, source, preemption.stopped)
    console.line(
        f"evaluating {config.model.name}, step {step}, on {len(source)} images of {config.data.name} "
        f"{config.data.eval_split}: {inputs.eval_image_size(config)} px, crop {config.eval.crop_pct:.4g}, "
        f"{config.eval.interpolation}"
    )
    program = build.eval_program(network, mesh)
    try:
        result: dict[str, Any] = evaluate(program, loader, mesh, state, console, watchdog)
    except Interrupted:
        return preemption.exit_status()
    finally:
        console.close()
        watchdog.close()
        preemption.close()
    console.evaluated(step, result)
    if jax.process_index() == 0:
        document = {"step": step, "model": config.model.name, "skipped": loader.skipped, **result}
        try:
            replace_text(workdir / "evaluation.json", json.dumps(document, indent=2) + "\n")
        except OSError as error:  # the result is worth having without the file, too
            raise UserError(f"{workdir / 'evaluation.json'} cannot be written: {error.strerror}") from error
    return 0
