"""Records of a run: ``metrics.jsonl`` is the truth; the CSV and the TensorBoard file hold the same numbers.

Every value is a float32, so the three agree exactly. A resumed run drops the records
past its checkpoint and writes the CSV and the event file anew, so no step stands twice.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.files import replace_text

Record = dict[str, Any]

TRAIN_KEYS = ("loss", "accuracy", "learning_rate", "bad_steps", "images_per_second")
EVAL_KEYS = ("top1", "top5", "eval_loss", "ema_top1", "ema_top5", "ema_eval_loss", "examples")
COLUMNS = ("step", "kind", *TRAIN_KEYS, *EVAL_KEYS)
TIMING_KEYS = ("images_per_second",)  # the only values that differ between equal runs


class RunLog:
    """Writes records; one per process 0.

    Args:
      workdir: holds ``metrics.jsonl``, ``metrics.csv`` and ``tensorboard/``.
      resume_step: records of later steps are dropped.
      evaluated: whether the checkpoint of ``resume_step`` knows its evaluation; otherwise that record is dropped too.
      warn: called with one line when a file cannot be written; the records are kept and tried again.
    """

    def __init__(self, workdir: Path, *, resume_step: int, evaluated: bool, warn: Callable[[str], None]) -> None:
        self.workdir, self.warn = workdir, warn
        self._unwritten: list[Record] = []
        self.records = [
            r
            for r in read_records(workdir)
            if r["step"] < resume_step or (r["step"] == resume_step and (evaluated or r["kind"] == "train"))
        ]
        replace_text(workdir / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in self.records))
        with (workdir / "metrics.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *map(_row, self.records)])
        self._board = _EventFile(workdir / "tensorboard")
        for record in self.records:
            self._board.add(record)
        self._board.flush()

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> Record:
        """Adds a record; ``kind`` is "train" or "eval"."""
        record: Record = {"step": step, "kind": kind} | {k: _float32(v) for k, v in values.items()}
        self.records.append(record)
        self._unwritten.append(record)
        self._board.add(record)
        self.flush()
        return record

    def flush(self) -> None:
        """Writes what is pending; a full disk is said once a record and tried again at the next."""
        try:
            with (self.workdir / "metrics.jsonl").open("a") as file:
                file.writelines(json.dumps(r) + "\n" for r in self._unwritten)
            with (self.workdir / "metrics.csv").open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(map(_row, self._unwritten))
            self._unwritten.clear()
            self._board.flush()
        except OSError as error:
            self.warn(f"metrics were not written ({error.strerror}); kept, and tried again later")

    def close(self) -> None:
        """Flushes and closes."""
        self.flush()
        self._board.close()


class _EventFile:
    """One TensorBoard event file through tensorboardX (no TensorFlow); nothing where it is not installed."""

    def __init__(self, folder: Path) -> None:
        self._writer = None
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            return
        folder.mkdir(exist_ok=True)
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder))

    def add(self, record: Record) -> None:
        if self._writer is not None:
            for key, value in record.items():
                if key not in ("step", "kind"):
                    self._writer.add_scalar(f"{record['kind']}/{key}", value, record["step"])

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def read_records(workdir: Path) -> list[Record]:
    """The records of a run; a torn last line (the plug was pulled) is left out."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
            record["step"], record["kind"]
        except (ValueError, KeyError, TypeError):
            continue
        records.append(record)
    return records


def _row(record: Record) -> list[Any]:
    return [_text(record.get(column)) for column in COLUMNS]


def _text(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _float32(value: float) -> float | None:
    value = float(np.float32(value))
    return value if math.isfinite(value) else None
