"""Attacks on runs: signals at any moment, to one process or to one of two, and the same command again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools.chaos.attack import Attack, Failure
from tools.shared.compile_flags import QUICK

ROOT = Path(__file__).resolve().parents[2]
STEPS = 24
FIELDS = {
    "model.name": "resnet10t", "data.train_split": "train[:360]", "data.eval_split": "test[:90]", "batch_size": 16,
    "steps": STEPS, "eval.every_epochs": 0.5, "checkpoint.every_steps": 5, "log_every": 3,
}  # fmt: skip
# What a run may do besides: gradients accumulated, images that grow in parts of the run.
MORE = {
    "accumulate": 2, "progressive.image_size": (32, 40), "progressive.magnitude": (5.0, 9.0),
    "progressive.mix": (0.0, 0.2),
}  # fmt: skip
DEVICES = 4  # of each process where there are two
MOMENTS = ("a checkpoint is written", "some steps are done", "any time")
PATIENCE_S = 240


def _start(workdir: Path, processes: int, more: dict[str, Any]) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    devices = 1 if processes == 1 else DEVICES
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} {QUICK}",
        "PYTHONUNBUFFERED": "1",
    }
    started = []
    for index in range(processes):
        fields = (
            FIELDS
            | more
            | (
                {}
                if processes == 1
                else {
                    "distributed.coordinator": f"localhost:{port}",
                    "distributed.processes": processes,
                    "distributed.process": index,
                }
            )
        )
        command = [sys.executable, "-m", "jaxvision.main", "--config", "configs/resnet_rs50.py:digits"]
        command += ["--workdir", str(workdir), *(f"--config.{name}={value}" for name, value in fields.items())]
        output = (workdir.parent / f"output_{index}.txt").open("ab")
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT))
        output.close()
    return started


def _end(processes: list[subprocess.Popen], seconds: float) -> list[int]:
    """The exit statuses; what is still there after ``seconds`` is killed, and a failure."""
    deadline = time.monotonic() + seconds
    try:
        return [process.wait(max(deadline - time.monotonic(), 0.1)) for process in processes]
    except subprocess.TimeoutExpired:
        raise Failure(f"a process was still there {seconds:.0f} s later") from None
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _result(workdir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The checksums of all arrays at the end, and the records without what depends on the clock."""
    meta = workdir / "checkpoints" / f"step_{STEPS}" / "meta" / "metadata"
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    clock = ("images_per_second", "crc32")
    return json.loads(meta.read_text())["document"]["arrays"], [
        {key: value for key, value in line.items() if key not in clock} for line in lines
    ]


def _finished(workdir: Path, processes: int, more: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    statuses = _end(_start(workdir, processes, more), PATIENCE_S)
    if any(statuses):
        output = (workdir.parent / "output_0.txt").read_text(errors="replace")
        raise Failure(f"status {statuses}: {output[-300:]}")
    return _result(workdir)


def _wait_for(moment: str, workdir: Path, running: list[subprocess.Popen], rng: random.Random) -> None:
    """Returns when the moment has come, or when a process has ended before."""
    deadline = time.monotonic() + PATIENCE_S / 2
    log, wanted = workdir / "metrics.jsonl", rng.randrange(1, STEPS // FIELDS["log_every"] + 3)
    before = log.read_bytes().count(b"\n") if log.exists() else 0
    until = time.monotonic() + rng.uniform(0, 40)
    while time.monotonic() < deadline and all(process.poll() is None for process in running):
        if moment == MOMENTS[0] and any(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*")):
            return
        if moment == MOMENTS[1] and log.exists() and log.read_bytes().count(b"\n") >= before + wanted:
            return
        if moment == MOMENTS[2] and time.monotonic() > until:
            return
        time.sleep(0.002)


def _interrupt(expected: Any, rng: random.Random, folder: Path, processes: int, more: dict[str, Any]) -> str:
    """Interrupts a run up to three times, starts it again each time, and compares its end."""
    workdir, told = folder / "run", []
    for _ in range(rng.choice((1, 1, 2, 3))):
        running = _start(workdir, processes, more)
        moment = rng.choice(MOMENTS)
        number = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        victim = rng.randrange(processes)
        _wait_for(moment, workdir, running, rng)
        running[victim].send_signal(number)
        told.append(f"{signal.Signals(number).name} to {victim} when {moment}")
        try:
            status = _end(running, 90)[victim]
        except Failure as failure:
            raise Failure(f"{'; '.join(told)}: {failure}") from None
        if status not in (0, -number, 128 + number):
            early = number != signal.SIGKILL and status in (-number, 143)  # before or by JAX's own handler
            if not early:
                raise Failure(f"{'; '.join(told)}: status {status}")
    found = _finished(workdir, processes, more)
    for what, ours, reference in zip(("array", "record"), found, expected, strict=True):
        if ours != reference:
            raise Failure(f"{'; '.join(told)}: the {what}s at the end differ from those of an uninterrupted run")
    shutil.rmtree(folder)
    folder.mkdir()
    return "equal"


def attack(processes: int, what: str = "", more: dict[str, Any] | None = None) -> Attack:
    """The row of the table for runs of one or of two processes.

    Args:
      processes: of a run.
      what: for the row's name, which other ``more`` fields of the config are set.
      more: fields of the config.
    """
    devices = "" if processes == 1 else f" of {DEVICES} devices"
    return Attack(
        f"signals, {processes} process{'es' if processes > 1 else ''}{devices}{what}",
        "kill -9, SIGTERM, Ctrl-C, SIGHUP at any moment: after a restart all arrays and records are equal",
        lambda folder: _finished(folder / "reference", processes, more or {}),
        lambda expected, rng, folder: _interrupt(expected, rng, folder, processes, more or {}),
        seconds=4 * PATIENCE_S,
    )


ATTACKS = (attack(1), attack(1, ", accumulating, with growing images", MORE), attack(2))
