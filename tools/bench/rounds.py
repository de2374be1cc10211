"""Lets the variants of a model on both sides run in turn, each in a process of its own."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LEAST_BATCH = 4
KERNEL_CALLS = 5  # that the profiler watches
PAUSE = 0.3  # seconds before each sample: the other side's threads may still spin for more work


class Worker:
    """A process of ``tools/bench/worker.py``."""

    def __init__(self, side: str, *, timeout: float, **arguments: Any) -> None:
        self.timeout = timeout
        flags = [f"--parent={os.getpid()}", *(f"--{key}={value}" for key, value in arguments.items())]
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), side, *flags],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip

    def ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """The answer: {"result": ...} or {"error": text}."""
        timer = threading.Timer(self.timeout, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps({"op": operation} | arguments) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        finally:
            late = not timer.is_alive()
            timer.cancel()
        if line:
            return json.loads(line)
        self.process.wait()
        reason = f"no answer in {self.timeout:.0f} s" if late else f"ended with status {self.process.returncode}"
        return {"error": reason}

    def close(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclasses.dataclass
class Row:
    """What was measured of a model in a mode; ``variants`` has a dict for each variant of each side."""

    model: str
    mode: str
    batch: int
    size: int
    dtype: str
    variants: dict[str, dict[str, Any]]


@dataclasses.dataclass
class Job:
    """A row to be measured: ``variants`` has the names of each side's variants."""

    model: str
    mode: str
    batch: int
    variants: dict[str, list[str]]


def measure(jobs: Sequence[Job], args: argparse.Namespace) -> Iterator[Row]:
    """A row for each job, of which all workers are built first, ``args.builds`` of them at the same time.

    Where one side runs out of memory, the row is measured again alone, and both get half the batch.
    """
    rows = [Row(job.model, job.mode, job.batch, args.image_size, args.dtype, {}) for job in jobs]
    workers: list[dict[str, Worker]] = [{} for _ in jobs]

    def build(place: int, key: str) -> tuple[str, dict[str, Any]]:
        row, (side, _, variant) = rows[place], key.partition(" ")
        worker = workers[place][key] = Worker(
            side, timeout=args.timeout, model=row.model, mode=row.mode, variant=variant, batch=row.batch, size=row.size,
            dtype=row.dtype,
        )  # fmt: skip
        return key, worker.ask("setup")

    try:
        with ThreadPoolExecutor(args.builds) as pool:
            builds = [
                [pool.submit(build, i, f"{side} {name}") for side, names in job.variants.items() for name in names]
                for i, job in enumerate(jobs)
            ]
            answers = [dict(future.result() for future in row) for row in builds]
        for job, row, own, results in zip(jobs, rows, workers, answers, strict=True):
            for key, answer in results.items():
                row.variants[key] = answer.get("result", answer)
                if "error" in answer:
                    own.pop(key).close()
            if job.batch // 2 >= LEAST_BATCH and any(out_of_memory(a.get("error", "")) for a in results.values()):
                close(workers)
                yield from measure([dataclasses.replace(job, batch=job.batch // 2)], args)
                continue
            run_rounds(row, own, args)
            close([own])
            yield row
    finally:
        close(workers)


def close(workers: Iterable[dict[str, Worker]]) -> None:
    """Ends all of them."""
    for own in workers:
        for worker in own.values():
            worker.close()
        own.clear()


def out_of_memory(message: str) -> bool:
    """Whether a worker's error says so."""
    return any(text in message.lower() for text in ("resource_exhausted", "out of memory", "outofmemory", "status -9"))


def run_rounds(row: Row, workers: dict[str, Worker], args: argparse.Namespace) -> None:
    """Warms up, then lets the workers run in turn; one that fails is left out, and the others go on."""
    calls: dict[str, int] = {}

    def ask(key: str, operation: str, **arguments: Any) -> Any:
        answer = workers[key].ask(operation, **arguments)
        if "error" in answer:
            row.variants[key]["error"] = answer["error"]
            workers.pop(key).close()
        return answer.get("result")

    for key in list(workers):
        ask(key, "run", calls=2)
        if key in workers and (seconds := ask(key, "run", calls=1)):
            calls[key] = max(1, round(args.seconds / seconds))
            row.variants[key]["seconds_per_call"] = []
    for i in range(args.rounds):
        # Every second round the other way round: what runs first is not always the same.
        for key in list(workers) if i % 2 == 0 else list(workers)[::-1]:
            time.sleep(PAUSE)
            # The other side's data fills the caches: a call that does not count.
            if ask(key, "run", calls=1) is not None and (seconds := ask(key, "run", calls=calls[key])) is not None:
                row.variants[key]["seconds_per_call"].append(seconds / calls[key])
    for key in list(workers):
        row.variants[key]["memory"] = ask(key, "memory")
        if args.kernels and key in workers:
            # A profiler that fails must not cost the row.
            answer = workers[key].ask("kernels", calls=KERNEL_CALLS)
            row.variants[key]["kernels"] = answer.get("result", answer)
