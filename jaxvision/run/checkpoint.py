"""Checkpoints by Orbax's CheckpointManager, with the guarantees that it lacks.

Orbax commits a checkpoint whole or not at all, and restores it on any number of devices. Added here:

* A CRC-32 of every array, and a digest of the table of these: Orbax restores flipped bits without an error (24 of 24
  when measured).
* ``restore`` takes the newest checkpoint that is not damaged, and names each damaged one.
* A checkpoint of another model is refused with a list of the differences.
* The latest N and the best one survive restarts, which needs ``preservation_policy``, ``best_fn`` and ``best_mode``
  together.
* Deletion renames first, so that ``kill -9`` leaves no half-deleted checkpoint.
* A save that fails, as on a full disk, leaves no partial files, and the run goes on.

The state is saved as one flat dict of numpy arrays. So a checkpoint does not depend on devices, and restoring it on
another number of them is a plain copy.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from jaxvision.errors import UserError, listed
from jaxvision.options import LARGEST_INT, option

FORMAT = 1
_PREFIX = "step"
_TRASH = ".trash"
_WRITERS_END_S = 5.0  # seconds for which the writers of a failed save may go on

Flat = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When checkpoints are written, and how many are kept."""

    every_steps: int = option(
        0,
        "steps between checkpoints, besides that of each evaluation; 0: only with evaluations",
        low=0,
        high=LARGEST_INT,
    )
    keep: int = option(2, "how many of the latest to keep; the best is kept besides", low=1, high=LARGEST_INT)


class Checkpointer:
    """Saves and restores ``(flat state, metadata)`` under a directory.

    Args:
      directory: absolute path; created if missing.
      keep: how many of the latest checkpoints to keep; the best one is kept, too.
      warn: called with one line when a save has failed or a checkpoint is damaged.
      read_only: nothing is created or deleted; only a damaged score file is emptied.

    Raises:
      UserError: the folder holds links, pipes or other things that no run writes, on which reading could wait forever.

    Attributes:
      best: step of the checkpoint with the highest score; known after :meth:`close`.
    """

    def __init__(self, directory: Path, *, keep: int, warn: Callable[[str], None], read_only: bool = False) -> None:
        absl_logging.set_verbosity(absl_logging.FATAL)  # what matters is in Orbax's exceptions
        _silence_closed_loops()
        self.directory, self.warn = directory, warn
        self.best: int | None = None
        self._saving: int | None = None
        self._last_failed = False
        policy = ocp.checkpoint_managers.preservation_policy
        if not read_only:
            directory.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(directory / _TRASH, ignore_errors=True)
            self._remove_debris()
        _check_kinds(directory)
        self._repair_scores()
        latest = policy.LatestN(keep)
        best = policy.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=policy.AnyPreservationPolicy([latest, best]),
            best_fn=_score,
            best_mode="max",
            todelete_subdir=_TRASH,
            step_prefix=_PREFIX,
            create=False,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(directory, options=self._options)

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, flat: Flat, meta: Mapping[str, Any], score: float | None = None) -> bool:
        """Starts writing a checkpoint in the background, after the one in progress.

        Args:
          step: of the checkpoint; one that exists is replaced.
          flat: host arrays by name; they must not change afterwards.
          meta: JSON-serialisable; :meth:`restore` returns it.
          score: evaluation accuracy, by which the best checkpoint is chosen; None: it was not evaluated.

        Returns:
          False if this save could not start or the one before failed; ``warn`` was called with the reason.
        """
        good = self.wait()
        document = {"format": FORMAT, "step": step, "meta": dict(meta), "arrays": _table(flat)}
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave(dict(flat)),
            meta=ocp.args.JsonSave({"document": document, "sha256": _digest(document)}),
        )
        # Nothing is being deleted now; what is left here would block a second deletion of the same step.
        shutil.rmtree(self.directory / _TRASH, ignore_errors=True)
        if self._last_failed:
            self._remove_debris()
        try:
            if step in self._manager.all_steps():
                self._manager.delete(step)
            self._saving, self._last_failed = step, False
            self._manager.save(step, args=args, metrics=None if score is None else {"score": score})
        except Exception as error:  # a full disk arrives as OSError, ValueError or XlaRuntimeError
            self._failed(error)
            return False
        return good

    def wait(self) -> bool:
        """Waits for the save in progress; returns False where it failed."""
        if self._saving is None:
            return True
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._failed(error)
            return False
        self._saving = None
        return True

    def close(self) -> bool:
        """Waits, and ends the manager's threads; returns False where the last save failed."""
        good = self.wait() and not self._last_failed
        self.best = self._manager.best_step()
        try:
            self._manager.close()
        except Exception:
            if good:
                raise  # otherwise it is the error of a save whose failure was told
        return good

    def restore(
        self, target: Flat | None, *, step: int | None = None, subset: bool = False
    ) -> tuple[dict[str, np.ndarray], dict, int] | None:
        """Reads the newest checkpoint that is not damaged, or the one of ``step``.

        Args:
          target: arrays, or their shapes and dtypes, by name, which must be those of the checkpoint; None: any.
          step: of the checkpoint.
          subset: whether the checkpoint may have more arrays than ``target``, which are left out.

        Returns:
          (flat state, metadata, step), or None where there is no checkpoint at all.

        Raises:
          UserError: it is of another model, every checkpoint is damaged, or there is none of ``step``.
        """
        steps = self.steps() if step is None else [step]
        if step is not None and step not in self.steps():
            raise UserError(f"no checkpoint of step {step} in {self.directory}; there are: {self.steps()}")
        damage = []
        for candidate in reversed(steps):
            try:
                return *self._restore_one(candidate, target, subset), candidate
            except _DamagedError as error:
                _silence_abandoned_tasks()
                damage.append(f"checkpoint of step {candidate} is damaged: {error}")
                self.warn(damage[-1] + "; trying the one before")
        if damage:
            raise UserError(
                f"no usable checkpoint in {self.directory}:\n  "
                + "\n  ".join(damage)
                + "\nStart with another --workdir, or delete the folder to begin anew."
            )
        return None

    def _restore_one(self, step: int, target: Flat | None, subset: bool) -> tuple[dict[str, np.ndarray], dict]:
        try:
            saved = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
            document, digest = saved["document"], saved["sha256"]
        except Exception as error:
            raise _DamagedError(f"its metadata cannot be read ({_first_line(error)})") from error
        if _digest(document) != digest:
            raise _DamagedError("its metadata differs from its digest")
        if not _is_document(document):
            raise _DamagedError("its metadata has not the fields of a checkpoint")
        if document["format"] != FORMAT:
            raise UserError(f"checkpoint format {document['format']} in {self.directory}, expected {FORMAT}")
        if document.get("step", step) != step:  # earlier versions did not write it
            raise _DamagedError(f"it was saved as step {document['step']}, and its folder was renamed")
        if target is not None:
            saved = {name: row for name, row in document["arrays"].items() if not subset or name in target}
            _compare(saved, target, self.directory, step)

        names = list(document["arrays"])
        arguments = ocp.args.PyTreeRestore(
            item=dict.fromkeys(names, 0),
            restore_args=dict.fromkeys(names, ocp.RestoreArgs(restore_type=np.ndarray)),
        )
        try:
            flat = dict(self._manager.restore(step, args=ocp.args.Composite(state=arguments))["state"])
        except Exception as error:
            raise _DamagedError(_first_line(error)) from error
        found, expected = _table(flat), document["arrays"]
        bad = [name for name in expected if found.get(name) != expected[name]]
        if bad:
            raise _DamagedError(f"checksum of {listed(bad, 3)} differs")
        return flat, document["meta"]

    def _failed(self, error: Exception) -> None:
        step, self._saving, self._last_failed = self._saving, None, True
        _silence_abandoned_tasks()
        self._renew_manager()
        self._remove_debris()
        full = "No space left" in str(error) or "RESOURCE_EXHAUSTED" in str(error)
        reason = "no space left on the disk" if full else _first_line(error)
        self.warn(f"checkpoint of step {step} was not saved ({reason}); training goes on")

    def _renew_manager(self) -> None:
        """Has the writers of a failed save end; the manager would raise their errors again at its next call.

        Several processes would have to do that together: there the next save fails, too, and says so.
        """
        if jax.process_count() > 1:
            return
        for _ in range(3):  # each raises one error, the last one closes the manager
            with contextlib.suppress(Exception):
                self._manager.close()
                break
        with contextlib.suppress(Exception):  # otherwise the next save fails and says why
            self._repair_scores()
            self._manager = ocp.CheckpointManager(self.directory, options=self._options)

    def _repair_scores(self) -> None:
        """Empties damaged score files: Orbax reads them first of all, and fails to start where one is damaged."""
        for file in self.directory.glob(f"{_PREFIX}_*/metrics/metrics"):
            try:
                damaged = not isinstance(json.loads(file.read_text()), dict)
            except (ValueError, RecursionError):
                damaged = True
            if damaged:
                self.warn(f"{file} is damaged: its checkpoint no longer counts for the best")
                file.write_text("{}")

    def _remove_debris(self) -> None:
        """Deletes the folders of saves that failed, which Orbax leaves and which fill the disk.

        Its abandoned writers may go on for a moment and write into a folder that is being deleted.
        """
        deadline = time.monotonic() + _WRITERS_END_S
        while folders := list(self.directory.glob("*.orbax-checkpoint-tmp*")):
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            if time.monotonic() > deadline:
                return  # the next save tries again
            time.sleep(0.05)


class _DamagedError(Exception):
    """A checkpoint that cannot be read, or whose checksums differ."""


def _check_kinds(directory: Path) -> None:
    """Refuses what is neither a folder nor a file where Orbax, or this module, would open it."""
    problems = []
    for step in sorted(directory.glob(f"{_PREFIX}_*")):
        if step.is_symlink() or not step.is_dir():
            problems.append(step.name)
            continue
        strange = [path for path in step.rglob("*") if path.is_symlink() or not (path.is_dir() or path.is_file())]
        strange += [path for path in (step / "metrics" / "metrics",) if path.is_dir()]
        problems += [str(path.relative_to(directory)) for path in strange]
    if problems:
        raise UserError(
            f"no run wrote what is in {directory}: links, pipes, devices, or a folder in the place of a file: "
            f"{listed(problems, 10)}. Delete them, or put back the files."
        )


def _is_document(document: Any) -> bool:
    """Whether decoded metadata has the fields that :meth:`Checkpointer.save` writes."""
    match document:
        case {"format": int(), "meta": dict(), "arrays": dict() as arrays}:
            return all(isinstance(row, list) and [type(x) for x in row] == [list, str, int] for row in arrays.values())
    return False


def _score(metrics: Mapping[str, Any]) -> float:
    """The score by which the best checkpoint is chosen; the lowest where its file was damaged."""
    value = metrics.get("score")
    return float(value) if isinstance(value, int | float) else -math.inf


def _table(flat: Flat) -> dict[str, list]:
    """[shape, dtype, CRC-32] of each array by name; computed in threads, as zlib releases the GIL."""

    def row(value: np.ndarray) -> list:
        flat_bytes = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        return [list(value.shape), str(value.dtype), zlib.crc32(flat_bytes.data)]

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(flat, pool.map(row, flat.values()), strict=True))


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _compare(saved: Mapping[str, list], target: Flat, directory: Path, step: int) -> None:
    """Raises a ``UserError`` with every difference in name, shape or dtype."""
    problems = [f"only in the checkpoint: {name} {saved[name][0]}" for name in saved if name not in target]
    for name, value in target.items():
        expected = [list(value.shape), str(np.dtype(value.dtype))]
        if name not in saved:
            problems.append(f"only in the model: {name} {expected[0]}")
        elif saved[name][:2] != expected:
            problems.append(f"{name}: checkpoint has {saved[name][:2]}, model has {expected}")
    if problems:
        shown = "\n  ".join(problems[:20]) + (f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise UserError(
            f"the checkpoint of step {step} in {directory} is of another model or optimizer, "
            f"{len(problems)} differences:\n  {shown}\nUse another --workdir, or the config the run was started with."
        )


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    line = text[0] if text else type(error).__name__
    return line if len(line) <= 200 else line[:200] + "..."


def _silence_abandoned_tasks() -> None:
    """Keeps asyncio from logging each task that Orbax abandons after a failed save or restore."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def _silence_closed_loops() -> None:
    """Keeps Orbax's abandoned writers from printing that their event loop is closed, after a failed save or restore.

    They print it before the failure is known here, so this is installed from the start.
    """
    inner = sys.unraisablehook
    if getattr(inner, "filters_closed_loops", False):
        return

    def hook(unraisable: Any) -> None:
        if not (isinstance(unraisable.exc_value, RuntimeError) and "loop is closed" in str(unraisable.exc_value)):
            inner(unraisable)

    hook.filters_closed_loops = True
    sys.unraisablehook = hook
