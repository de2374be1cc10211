"""Whether a run repeats its own bits on this device, also across a restart; prints a line of JSON.

  python tools/gpu/resume.py                    # as the device does it by default
  python tools/gpu/resume.py --deterministic    # with config.deterministic

Three runs of the packaged digits: one, the same again, and the first one started again from its middle checkpoint.
Compared is every array of their last checkpoints: parameters, optimizer, statistics, EMA.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from tools.shared import command_line

ROOT = Path(__file__).resolve().parents[2]


def train(workdir: Path, steps: int, fields: list[str], deterministic: bool) -> float:
    """Runs to ``steps``, or goes on to there; the seconds it took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "jaxvision.main", "--config", "configs/resnet_rs50.py:digits"]
    command += ["--workdir", str(workdir), f"--config.steps={steps}", f"--config.checkpoint.every_steps={steps // 2}"]
    command += [f"--config.deterministic={deterministic}", *fields]
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def arrays(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint."""
    from jaxvision.run.checkpoint import Checkpointer

    checkpoints = Checkpointer(workdir / "checkpoints", keep=9, warn=print, read_only=True)
    restored = checkpoints.restore(None, step=step)
    checkpoints.close()
    assert restored is not None, f"no checkpoint of step {step} in {workdir}"
    return dict(restored[0])


def differing(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> list[str]:
    """Names of the arrays that are not equal in every bit."""
    assert first.keys() == second.keys(), sorted(first.keys() ^ second.keys())
    return [name for name, value in first.items() if value.tobytes() != second[name].tobytes()]


def check(steps: int, fields: list[str], deterministic: bool) -> dict[str, Any]:
    """The row: how many arrays differ in the repeated and in the resumed run."""
    with tempfile.TemporaryDirectory() as temporary:
        first, again, resumed = (Path(temporary) / name for name in ("first", "again", "resumed"))
        seconds = [train(first, steps, fields, deterministic), train(again, steps, fields, deterministic)]
        shutil.copytree(first, resumed)
        shutil.rmtree(resumed / "checkpoints" / f"step_{steps}")
        seconds.append(train(resumed, steps, fields, deterministic))
        end = arrays(first, steps)
        middle = arrays(first, steps // 2)
        rows = {name: differing(end, arrays(path, steps)) for name, path in (("again", again), ("resumed", resumed))}
    moved = len(differing(end, middle))
    assert moved > len(end) / 2, f"only {moved} of {len(end)} arrays moved: this compares nothing"
    return {
        "deterministic": deterministic, "steps": steps, "arrays": len(end), "moved": moved,
        "differing": {name: len(found) for name, found in rows.items()},
        "examples": {name: found[:3] for name, found in rows.items()}, "seconds": [round(s, 1) for s in seconds],
    }  # fmt: skip


def main() -> int:
    """Command line; the status is 1 where runs differ that have to be equal."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--deterministic", action="store_true", help="set config.deterministic")
    parser.add_argument("--steps", type=int, default=30, help="of a run (30)")
    parser.add_argument("--tiny", action="store_true", help="a small network, to rehearse on a CPU")
    args = parser.parse_args()
    tiny = ["--config.model.name=resnet10t", "--config.batch_size=32"] if args.tiny else []
    row = check(args.steps, tiny, args.deterministic)
    print(json.dumps(row))
    return int(args.deterministic and any(row["differing"].values()))


if __name__ == "__main__":
    command_line.start(main)
