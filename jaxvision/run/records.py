"""Records of a run: ``metrics.jsonl`` is the source; the CSV and the TensorBoard file are derived from it.

Every value is a float32, so the three agree exactly; a value that is not finite is null in the first, empty in the
second and missing in the third. A resumed run drops the records after its checkpoint from all three, so that no step
is recorded twice.

Each line of ``metrics.jsonl`` ends with the CRC-32 of what stands before it, so that a changed value is noticed. A
damaged line is left out and named, and a copy of the file is kept.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import math
import shutil
import socket
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.errors import UserError, listed
from jaxvision.files import check_regular, replace_file

Record = dict[str, Any]

NAME = "metrics.jsonl"
_LARGEST_VALUE = float(np.finfo(np.float32).max)


class RunLog:
    """Writes the records of a run; only the first process has one.

    Args:
      workdir: gets ``metrics.jsonl``, ``metrics.csv`` and, where tensorboardX is installed, ``tensorboard/``.
      columns: names of values in the order of ``metrics.csv``, after "step" and "kind".
      resume_step: records of later steps are dropped.
      evaluated: whether the checkpoint of ``resume_step`` was evaluated; otherwise its evaluation is dropped, too.
      warn: called with one line where earlier records are damaged, and when the files cannot be written any more; the
        records are kept and tried again.

    Attributes:
      records: all records of the run, oldest first.

    Raises:
      UserError: the workdir cannot be written to.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        columns: Sequence[str],
        resume_step: int,
        evaluated: bool,
        warn: Callable[[str], None],
    ) -> None:
        self.warn = warn
        columns = ("step", "kind", *columns)
        self._failed = False
        records, damaged = _read(workdir)
        self.records = [
            r
            for r in records
            if r["step"] < resume_step or (r["step"] == resume_step and (evaluated or r["kind"] == "train"))
        ]
        self._files = [
            _File(workdir / NAME, _json_line),
            _File(workdir / "metrics.csv", lambda record: _csv_line(_row(record, columns)), _csv_line(columns)),
        ]
        try:
            if damaged:
                copy = _keep_copy(workdir / NAME)
                warn(f"{_damage_text(workdir, damaged)}; the whole file is kept as {copy.name}")
            if encode := _event_encoder():
                self._files.append(_File(_new_event_file(workdir / "tensorboard"), encode, encode(None)))
            for file in self._files:
                file.start(self.records)
        except OSError as error:
            raise UserError(f"cannot write the records of the run to {workdir}: {error.strerror}") from error

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> Record:
        """Adds a record of ``kind`` "train" or "eval", and returns it as it is written."""
        record: Record = {"step": step, "kind": kind} | {k: _float32(v) for k, v in values.items()}
        self.records.append(record)
        for file in self._files:
            file.add(record)
        self.flush()
        return record

    def flush(self) -> None:
        """Writes what is pending, and a file that was deleted as a whole.

        A full disk is reported once, and writing is tried again at the next record.
        """
        problem = None
        for file in self._files:
            try:
                if file.path.exists():
                    file.flush()
                else:
                    file.start(self.records)
                    self.warn(f"{file.path} was deleted during the run: written again")
            except OSError as error:
                problem = error
        if problem is not None and not self._failed:
            self.warn(f"metrics were not written ({problem.strerror}); they are kept, and tried again later")
        self._failed = problem is not None

    def close(self) -> bool:
        """Writes what is pending; returns whether all records are in the files."""
        self.flush()
        return not self._failed


@dataclasses.dataclass
class _File:
    """A file to which records are appended whole: where that fails, it stays as it was and they stay pending."""

    path: Path
    encode: Callable[[Record], bytes]
    header: bytes = b""
    pending: bytes = b""

    def start(self, records: Sequence[Record]) -> None:
        """Replaces the file's content; nothing is pending then."""
        content = self.header + b"".join(map(self.encode, records))
        replace_file(self.path, lambda temporary: temporary.write_bytes(content))
        self.pending = b""

    def add(self, record: Record) -> None:
        self.pending += self.encode(record)

    def flush(self) -> None:
        if not self.pending:
            return
        with self.path.open("ab", buffering=0) as file:
            end, left = file.tell(), self.pending
            try:
                while left:  # a full disk takes a part first, and then raises
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(end)
                raise
        self.pending = b""


def read_records(workdir: Path) -> list[Record]:
    """The records of a run; a ``UserWarning`` names damaged lines, such as the last one after a power cut.

    Raises:
      UserError: ``metrics.jsonl`` is no regular file.
    """
    records, damaged = _read(workdir)
    if damaged:
        warnings.warn(_damage_text(workdir, damaged), stacklevel=2)
    return records


def _read(workdir: Path) -> tuple[list[Record], list[int]]:
    """The records whose lines are whole, and the numbers of the other lines, from 1."""
    path = workdir / NAME
    if not path.exists():
        return [], []
    check_regular(path)
    content = path.read_bytes().removesuffix(b"\n")
    parsed = [_parse(line) for line in content.split(b"\n")] if content else []
    # Runs of earlier versions wrote no checksums.
    signed = any(signature is not None for _, signature in filter(None, parsed))
    records, damaged = [], []
    for number, line in enumerate(parsed, 1):
        if line is None or (signed and line[1] != _crc(line[0])):
            damaged.append(number)
        else:
            records.append(line[0])
    return records, damaged


def _parse(line: bytes) -> tuple[Record, str | None] | None:
    """A record and its checksum, None of a line without; None where the line is none of a record."""
    try:
        record = json.loads(line)
        signature = record.pop("crc32", None)
        step, kind = record["step"], record["kind"]
        "".join(record).encode()  # fails where a name has half of a surrogate pair
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    values = [value for name, value in record.items() if name not in ("step", "kind")]
    whole = type(step) is int and 0 <= step < 2**63 and kind in ("train", "eval") and all(map(_is_value, values))
    return (record, signature) if whole else None


def _is_value(value: object) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) <= _LARGEST_VALUE)


def _crc(record: Record) -> str:
    return f"{zlib.crc32(json.dumps(record).encode()):08x}"


def _damage_text(workdir: Path, damaged: Sequence[int]) -> str:
    return f"{workdir / NAME} is damaged: line{'s' * (len(damaged) > 1)} {listed(damaged, 10)} left out"


def _keep_copy(path: Path) -> Path:
    """Copies a damaged file to a name that is free."""
    names = (path.with_name(f"{path.name}.damaged{f'-{i}' if i else ''}") for i in itertools.count())
    copy = next(name for name in names if not name.exists())
    shutil.copyfile(path, copy)
    return copy


def _float32(value: float) -> float | None:
    with np.errstate(over="ignore"):
        value = float(np.float32(value))
    return value if math.isfinite(value) else None


# ---------------------------------------------------------------------- a record in each file


def _json_line(record: Record) -> bytes:
    return (json.dumps(record | {"crc32": _crc(record)}) + "\n").encode()


def _csv_line(row: Sequence[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue().encode()


def _row(record: Record, columns: Sequence[str]) -> list[str]:
    values = [record.get(column) for column in columns]
    return ["" if value is None else repr(value) if isinstance(value, float) else str(value) for value in values]


def _new_event_file(folder: Path) -> Path:
    """Path of the run's only event file; earlier ones are deleted."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    return folder / f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}"


def _event_encoder() -> Callable[[Record | None], bytes] | None:
    """A record as TensorBoard reads it, None as the file's header; there is no encoder without tensorboardX.

    Its SummaryWriter is not used: it writes from a thread, which a full disk ends, and then waits for it forever.
    """
    try:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary
        from tensorboardX.record_writer import masked_crc32c
    except ImportError:
        return None

    def encode(record: Record | None) -> bytes:
        if record is None:
            event = Event(wall_time=time.time(), file_version="brain.Event:2")
        else:
            values = [
                Summary.Value(tag=f"{record['kind']}/{key}", simple_value=value)
                for key, value in record.items()
                if key not in ("step", "kind") and value is not None
            ]
            event = Event(wall_time=time.time(), step=record["step"], summary=Summary(value=values))
        # The framing of a TFRecord.
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        checksums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
        return length + next(checksums) + data + next(checksums)

    return encode
