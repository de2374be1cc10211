"""Attacks on what a run keeps: its checkpoints and its log, damaged, rearranged, or on a disk that is full."""

from __future__ import annotations

import os
import random
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tools.chaos.attack import Attack, Failure, damage

STEPS = (2, 5, 9)


def _state(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {
        "params.conv.weight": rng.standard_normal((16, 3, 3, 3), np.float32),
        "params.fc.bias": rng.standard_normal(900, np.float32),
        "step": np.array(step, np.int32),
    }


def _checkpoints(folder: Path) -> Path:
    from jaxvision.run.checkpoint import Checkpointer

    made = Checkpointer(folder / "checkpoints", keep=len(STEPS), warn=print)
    for step in STEPS:
        made.save(step, _state(step), {"note": step}, score=step / 10)
    made.close()
    return folder / "checkpoints"


def _restored(folder: Path, newest: int = STEPS[-1]) -> str:
    """Restores, and saves once more; the newest state, or with a warning an earlier one, has to be right."""
    from jaxvision.run.checkpoint import Checkpointer

    warnings: list[str] = []
    checkpoints = Checkpointer(folder, keep=len(STEPS), warn=warnings.append)
    try:
        found = checkpoints.restore(_state(0))
        if found is None:
            raise Failure("no checkpoint is seen")
        flat, meta, step = found
        expected = _state(step)
        wrong = [name for name in expected if flat[name].tobytes() != expected[name].tobytes()]
        if wrong or meta != {"note": step}:
            raise Failure(f"step {step} was restored with a wrong {', '.join(wrong) or 'note'}")
        if step != newest and not warnings:
            raise Failure(f"step {step} was restored without a warning")
        checkpoints.save(20, _state(20), {"note": 20})
    finally:
        closed = checkpoints.close()
    if not closed:
        raise Failure("the next checkpoint cannot be saved")
    return "unharmed" if step == newest else "fell back"


def _files(folder: Path) -> list[Path]:
    """All files, in an order that does not depend on Orbax's random names."""
    return sorted(
        (path for path in folder.rglob("*") if path.is_file()),
        key=lambda path: (len(path.parts), path.stat().st_size, path.name),
    )


def _damaged_checkpoint(source: Path, rng: random.Random, folder: Path) -> str:
    copy = shutil.copytree(source, folder / "checkpoints")
    newest = copy / f"step_{STEPS[-1]}"
    file = rng.choice(_files(newest))
    if rng.random() < 0.15:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes(), rng))
    return _restored(copy)


def _rearranged_checkpoint(source: Path, rng: random.Random, folder: Path) -> str:
    copy = shutil.copytree(source, folder / "checkpoints")
    newest = copy / f"step_{STEPS[-1]}"
    path = rng.choice(_files(newest))
    match rng.randrange(7):
        case 0:
            path.unlink()
            path.mkdir()
        case 1:
            path.unlink()
            os.mkfifo(path)
        case 2:
            path.unlink()
            path.symlink_to(rng.choice(("/dev/zero", "nowhere", path.name)))
        case 3:
            newest.rename(copy / f"step_{rng.choice((7, 1000, 10**12))}")
        case 4:
            shutil.copytree(copy / f"step_{STEPS[0]}", copy / f"step_{rng.choice((11, 77))}")
        case 5:
            (copy / rng.choice(("step_11", "step_x", "junk", "step_-1"))).mkdir()
        case _:
            (copy / rng.choice(("step_11", "step_x", "junk"))).write_text("junk")
    return _restored(copy)


def _log(folder: Path) -> tuple[bytes, list[dict[str, Any]]]:
    from jaxvision.run.records import RunLog

    log = RunLog(folder, columns=("loss", "accuracy"), resume_step=0, evaluated=True, warn=print)
    for step in range(1, 20):
        log.write("train", step, {"loss": 2.0 / step, "accuracy": 3.7 * step})
    log.close()
    return (folder / "metrics.jsonl").read_bytes(), log.records


def _damaged_log(prepared: tuple[bytes, list[dict[str, Any]]], rng: random.Random, folder: Path) -> str:
    from jaxvision.run.records import RunLog

    content, written = prepared
    damaged = damage(content, rng)
    (folder / "metrics.jsonl").write_bytes(damaged)
    warnings: list[str] = []
    log = RunLog(folder, columns=("loss", "accuracy"), resume_step=99, evaluated=True, warn=warnings.append)
    log.close()
    if strange := [record for record in log.records if record not in written]:
        raise Failure(f"a changed record was taken: {strange[0]}")
    # What was cut off behind a line cannot be known.
    whole_lines_only = damaged in (content[: i + end] for i, byte in enumerate(content) if byte == 10 for end in (0, 1))
    if len(log.records) < len(written) and not warnings and not whole_lines_only and damaged:
        raise Failure(f"{len(written) - len(log.records)} records are gone without a warning")
    return "named" if warnings else "unharmed"


def _full_disk(source: Path, rng: random.Random, folder: Path) -> str:
    """No file may grow beyond a random size while a checkpoint is saved."""
    from jaxvision.run.checkpoint import Checkpointer

    copy = shutil.copytree(source, folder / "checkpoints")
    warnings: list[str] = []
    checkpoints = Checkpointer(copy, keep=len(STEPS) + 2, warn=warnings.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(2 ** rng.uniform(0, 15)), limits[1]))
    try:
        saved = checkpoints.save(15, _state(15), {"note": 15}) and checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    if saved == bool(warnings) or saved != (15 in checkpoints.steps()):
        raise Failure(
            f"{'' if saved else 'not '}saved, there are {checkpoints.steps()}, and the warnings are {warnings}"
        )
    again = checkpoints.save(16, _state(16), {"note": 16})
    if not (checkpoints.close() and again):
        raise Failure(f"once there is space again, nothing can be saved: {warnings}")
    if leftover := [path.name for path in copy.iterdir() if "tmp" in path.name]:
        raise Failure(f"unfinished folders are left: {leftover}")
    _restored(copy, newest=16)
    return "saved" if saved else "told"


ATTACKS = (
    Attack("checkpoint, damaged", "bytes of the newest: that state or, told, the one before", _checkpoints,
           _damaged_checkpoint),
    Attack("checkpoint, rearranged", "pipes, links, renamed and strange folders: the same", _checkpoints,
           _rearranged_checkpoint),
    Attack("checkpoint, full disk", "no file grows beyond a limit: saved, or told and the earlier ones stay",
           _checkpoints, _full_disk),
    Attack("metrics.jsonl", "no changed record is taken, no record is lost unnoticed", _log, _damaged_log),
)  # fmt: skip
