"""The training loop, one linear function to read from top to bottom."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision.config import Config, changed_fields
from jaxvision.data import sources
from jaxvision.data.loader import Interrupted
from jaxvision.data.plan import Plan
from jaxvision.errors import DivergedError, OutOfMemoryError, UserError
from jaxvision.run.checkpoint import Checkpointer
from jaxvision.run.console import Console, notes, parameter_table
from jaxvision.run.preemption import Preemption, Watchdog
from jaxvision.run.records import RunLog
from jaxvision.run.report import plot_curves, summary
from jaxvision.run.weights import not_finite
from jaxvision.train import build, compilation, inputs, sharding
from jaxvision.train.curve_labels import curve_labels
from jaxvision.train.distill import load_teacher
from jaxvision.train.evaluate import evaluate
from jaxvision.train.metrics import EVAL_COLUMNS, TRAIN_COLUMNS, TRAIN_METRICS, compute
from jaxvision.train.progressive import stages
from jaxvision.train.replicas import group_notes
from jaxvision.train.state import flatten, unflatten
from jaxvision.train.workdir import check_same_classes, check_same_examples, keep_description, open_workdir

LAG = 2  # steps the host may be ahead of the report it checks
PROFILED = (10, 20)  # first and last traced step after the start


def run(config: Config, workdir: Path) -> int:
    """Trains from the newest undamaged checkpoint to the end or to a signal; returns the exit status."""
    mesh = build.start_devices(config)
    at = {"step": 0}  # where the loop is, for the message of an error that ends it
    try:
        with contextlib.ExitStack() as held:
            return _run(config, workdir.absolute(), mesh, at, held)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise OutOfMemoryError(f"out of device memory at step {at['step']}. {compilation.MEMORY_ADVICE}") from error
        if jax.process_count() == 1:
            raise
        _lost_peer(at["step"], error)
        raise


def _run(config: Config, workdir: Path, mesh: Mesh, at: dict[str, int], held: contextlib.ExitStack) -> int:
    # ------------------------------------------------------------------ data
    preemption, watchdog = Preemption(), Watchdog(config.watchdog_seconds)
    watchdog.feed()
    train_source, eval_source = inputs.open_train(config), inputs.open_eval(config)
    sources.check_same_classes(train_source, eval_source)
    eval_loader = inputs.eval_loader(config, eval_source, preemption.stopped)
    length = build.lengths(config, len(train_source))

    # ------------------------------------------------------------------ model and state
    network = build.build_network(config, train_source)
    state, optimizer = build.initial_state(config, network, mesh)
    teacher = load_teacher(config, network.spec, network.num_classes, network.dtype, train_source.class_names)
    teacher_variables = sharding.replicate(mesh, teacher.variables) if teacher else None
    first = jax.process_index() == 0
    console = Console(enabled=first, total=length.total, per_epoch=length.per_epoch, mixed=config.mixes())
    preemption.say, watchdog.warn = console.notice, console.warn
    if first:
        held.enter_context(open_workdir(workdir, config, train_source.class_names, console.warn))
    checkpoints = Checkpointer(workdir / "checkpoints", keep=config.checkpoint.keep, warn=console.warn)
    start, evaluated = 0, True
    if restored := checkpoints.restore(flatten(state)):
        flat, meta, start = restored
        if bad := not_finite(flat):
            raise UserError(f"the weights of the checkpoint of step {start} are not finite: {bad}. Delete its folder.")
        check_same_classes(workdir, meta.get("class_names"), train_source.class_names)
        check_same_examples(workdir, meta, config, (len(train_source), len(eval_source)))
        if flat["bad_in_row"] >= config.max_bad_steps:
            flat["bad_in_row"] = np.zeros_like(flat["bad_in_row"])  # that run was given up: this is another attempt
        state, evaluated = sharding.replicate(mesh, unflatten(state, flat)), meta.get("evaluated", True)
        console.resumed(start, changed_fields(meta.get("config", {}), config))
    elif config.model.weights:
        with notes(console.line):
            state = build.load_initial_weights(config, network, state, mesh, train_source.class_names)
    columns = (*TRAIN_COLUMNS, *EVAL_COLUMNS)
    log = RunLog(workdir, columns=columns, resume_step=start, evaluated=evaluated, warn=console.warn) if first else None
    console.line(
        f"{config.model.name}, {network.num_classes} classes, {config.model.image_size} px, {network.dtype}; "
        f"{len(train_source)} training and {len(eval_source)} evaluation images; batch {config.batch_size} on "
        f"{jax.device_count()} {jax.devices()[0].device_kind}; {length.total} steps"
    )
    for note in [*build.length_notes(config, length, len(train_source)), *group_notes(config, jax.device_count())]:
        console.line(f"note: {note}")
    console.line(parameter_table(state.params))

    # ------------------------------------------------------------------ programs
    eval_program = build.eval_program(network, mesh)
    parts = stages(config, length.total)
    part = batches = train_loader = None  # of the loop: the part of the run that a step belongs to
    skipped: dict[int, str] = {}

    def save(step: int, score: float | None = None) -> None:
        # The records come first: a checkpoint never covers steps that the log lacks.
        if log is not None:
            log.flush()
            keep_description(workdir, config, train_source.class_names, console.warn)
        meta = {
            "config": json.loads(config.to_json()),
            "class_names": list(train_source.class_names),
            "examples": [len(train_source), len(eval_source)],
            "evaluated": score is not None or not length.evaluates(step),
        }
        flat = sharding.fetch(flatten(state))
        _check_weights(step, flat, config, checkpoints)
        checkpoints.save(step, flat, meta, score)

    def measure(step: int) -> None:
        values = evaluate(eval_program, eval_loader, mesh, state, console, watchdog)
        console.evaluated(step, values)
        if log is not None:
            log.write("eval", step, values)
        save(step, max(values["top1"], values["ema_top1"]))

    def leave(step: int) -> int:
        if saved_at != step and step > 0:
            save(step)
        good = checkpoints.wait()
        console.line(f"interrupted, {'saved' if good else 'NOT saved'} at step {step}; the same command resumes")
        return preemption.exit_status()

    # ------------------------------------------------------------------ the loop
    reports: collections.deque[tuple[int, Any]] = collections.deque()
    done = saved_at = clock_step = start
    clock, told = time.monotonic(), 0
    try:
        if not evaluated:  # a signal cut that evaluation off
            measure(start)
        for step in range(start, length.total):
            at["step"] = step
            if part is None or step == part.stop:
                part = next(p for p in parts if p.start <= step < p.stop)
                if batches is not None:
                    batches.close()
                train_loader = inputs.train_loader(part.config, train_source, preemption.stopped, skipped)
                batches = inputs.step_stream(train_loader, mesh, step, part.stop)
                part_network = network if len(parts) == 1 else build.build_network(part.config, train_source)
                augment = build.augment_program(part.config, part_network, mesh)
                train_program = build.train_program(part.config, part_network, optimizer, length, mesh, teacher)
                train_step = None  # compiled with the first batch
                if len(parts) > 1:
                    console.line(f"steps {part.start} to {part.stop} at {part.config.model.image_size} px")
            # The first batch waits for the workers to fill the queue and for the compilation of the augmentation.
            waits = console.working("preparing the first batch") if train_step is None else contextlib.nullcontext()
            watchdog.waits_for(f"the images of step {step}")
            with waits:
                batch = next(batches)
                images = augment(batch["image"], np.int32(step))
            if train_step is None:
                watchdog.waits_for("the compilation of the train step")
                with console.working("compiling the train step"):
                    train_step = compilation.compile_program(
                        train_program, state, images, batch["label"], teacher_variables, what="the train step"
                    )
                if preemption.stop_at(step):
                    return leave(step)
                clock, clock_step = time.monotonic(), step
            if config.profile:
                _profile(step - start, workdir / "profile", state)
            state, report = train_step(state, images, batch["label"], teacher_variables)
            done = step + 1

            # Reports are read a little late, so that the device never waits for the host.
            watchdog.waits_for(f"step {done - len(reports)} on the device")
            reports.append((done, report))
            while len(reports) > (0 if length.logs(done) else LAG):
                _check(*reports.popleft(), config, train_loader.plan, checkpoints)
            watchdog.feed()
            console.stepped(done)

            if length.logs(done):
                now = time.monotonic()
                rate = (done - clock_step) * config.batch_size / max(now - clock, 1e-9)
                clock, clock_step = now, done
                values = _train_values(sharding.fetch(report), rate)
                if log is not None:
                    log.write("train", done, values)
                console.logged(done, values)
                told = console.skipped(skipped, told)
            if length.evaluates(done):
                measure(done)
                saved_at, clock = done, clock + time.monotonic() - now
            elif length.saves(done):
                save(done)
                saved_at = done
            if done < length.total and preemption.stop_at(done):
                return leave(done)
    except Interrupted:
        return leave(done)
    finally:
        if batches is not None:
            batches.close()
        console.close()
        saved = checkpoints.close()
        logged = log is None or log.close()
        watchdog.close()
        preemption.close()

    # ------------------------------------------------------------------ the end
    if not saved or not logged:
        what = "checkpoint" if logged else "records"
        raise UserError(f"the last {what} could not be written to {workdir}; free some space and run again")
    if log is not None:
        name = f"{config.model.name} on {config.data.name}"
        try:
            plot_curves(log.records, workdir / "curves.png", name, **curve_labels(config))
        except OSError as error:
            console.warn(f"curves.png was not written: {error.strerror}")
        skipped |= eval_loader.skipped
        console.line(summary(log.records, name=name, workdir=workdir, best_step=checkpoints.best, skipped=skipped))
    return 0


def _check(step: int, report: dict[str, Any], config: Config, plan: Plan, checkpoints: Checkpointer) -> None:
    """Ends the run where too many steps in a row were not finite, and names their examples."""
    in_row = int(report["bad_in_row"].addressable_data(0))
    if in_row < config.max_bad_steps:
        return
    whole = plan.whole()
    lines = []
    for bad in range(step - in_row, step):
        ids = whole.ids(bad)
        lines.append(f"  step {bad}: examples {', '.join(map(str, ids[:16]))}{' ...' if len(ids) > 16 else ''}")
    raise DivergedError(
        f"{in_row} steps in a row (to step {step - 1}) had a loss, gradient or BN statistic that is NaN or infinite. "
        "The weights are those before the first of them.\n"
        + "\n".join(lines)
        + f"\nLook at these examples, or lower the learning rate. {_way_back(config, checkpoints)}"
    )


def _check_weights(step: int, flat: dict[str, np.ndarray], config: Config, checkpoints: Checkpointer) -> None:
    """Ends the run before weights that are not finite are saved, which no further step could mend."""
    if bad := not_finite(flat):
        way_back = _way_back(config, checkpoints)
        raise DivergedError(f"the weights after step {step} are not finite: {bad}. They were not saved. {way_back}")


def _way_back(config: Config, checkpoints: Checkpointer) -> str:
    """Which checkpoint is the last good one, and the command that goes on from it with half the learning rate."""
    checkpoints.wait()
    steps = checkpoints.steps()
    if not steps:
        return "There is no checkpoint yet: begin again with a lower --config.optimizer.learning_rate."
    workdir = checkpoints.directory.parent
    rate = f"{config.optimizer.learning_rate / 2:g}"
    return (
        f"The last good checkpoint is {checkpoints.directory}/step_{steps[-1]}.\n"
        "To go on from it with half the learning rate:\n"
        f"  python -m jaxvision.main --config {workdir} --config.optimizer.learning_rate={rate}"
    )


def _train_values(report: dict[str, Any], rate: float) -> dict[str, float]:
    return compute(TRAIN_METRICS, report["metrics"]) | {
        "learning_rate": float(report["learning_rate"]),
        "bad_steps": float(report["bad_total"]),
        "images_per_second": rate,
    }


def _profile(offset: int, folder: Path, state: Any) -> None:
    """Traces steps ``PROFILED`` after the start."""
    if offset in PROFILED:
        jax.block_until_ready(state.step)
        if offset == PROFILED[0]:
            jax.profiler.start_trace(str(folder), create_perfetto_trace=True)
        else:
            jax.profiler.stop_trace()


def _lost_peer(step: int, error: Exception) -> None:
    """Ends this process at once: the orderly exit waits 80 s in a barrier for the peer that is gone."""
    reason = str(error).splitlines()[0][:300]
    print(f"error: process {jax.process_index()} at step {step} lost another process: {reason}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)
