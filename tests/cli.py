"""Runs the command line in processes of their own, as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tools.shared.compile_flags import QUICK

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "configs/resnet_rs50.py:digits"
# Small enough to start, train and evaluate in seconds: a quarter of the digits in a quarter of the batch.
TINY = {
    "model.name": "resnet10t",
    "model.drop_path_rate": 0.1,
    "data.train_split": "train[:360]",
    "data.eval_split": "test[:90]",
    "batch_size": 16,
    "steps": 24,
    "eval.every_epochs": 0.5,
    "checkpoint.every_steps": 5,
    "log_every": 3,
}


def arguments(workdir: Path, data: Path, **overrides: object) -> list[str]:
    fields = TINY | {"data.dir": data} | {k.replace("__", "."): v for k, v in overrides.items()}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["--config", CONFIG, "--workdir", str(workdir), *flags]


def environment(devices: int = 1, *, quick: bool = False) -> dict[str, str]:
    """``quick`` compiles as the other tests do; without it, as users do."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    flags += f" {QUICK}" if quick else ""
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONUNBUFFERED": "1"}


# A user has no torch, which tensorboardX would import: a third of a short run's time.
MAIN = "import sys; sys.modules['torch'] = None\nfrom jaxvision.main import main; sys.exit(main(sys.argv[1:]))"


def log_lines(workdir: Path) -> list[dict]:
    """The records of a run, without the checksums of their lines."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "crc32"} for line in lines]


def start(args: list[str], devices: int = 1, *, quick: bool = False, flags: str = "") -> subprocess.Popen:
    """``flags``: more of XLA's."""
    env = environment(devices, quick=quick)
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *args],
        env=env | {"XLA_FLAGS": f"{env['XLA_FLAGS']} {flags}"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip


def run(
    args: list[str], devices: int = 1, timeout: float = 300, *, quick: bool = False, flags: str = ""
) -> tuple[int, str]:
    process = start(args, devices, quick=quick, flags=flags)
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def run_tool(tool: str, *args: str, timeout: float = 300) -> tuple[int, str]:
    """A tool's status and all it printed, as a user runs it; compiled as the other tests."""
    done = subprocess.run(
        [sys.executable, f"tools/{tool}", *args], cwd=ROOT, env=environment(quick=True), timeout=timeout,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout


def wait_for(process: subprocess.Popen, text: str) -> str:
    """Reads output until a line holds ``text``."""
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came:\n{seen}")


def state_table(workdir: Path, step: int) -> dict[str, list]:
    """Shape, type and CRC of every array in a checkpoint, after a verified restore in the run's own code."""
    document = json.loads((workdir / "checkpoints" / f"step_{step}" / "meta" / "metadata").read_text())["document"]
    return document["arrays"]


def records(workdir: Path) -> list[dict]:
    """The metrics without what depends on the clock, as the checksum of a line does."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    clock = ("images_per_second", "crc32")
    return [{k: v for k, v in json.loads(line).items() if k not in clock} for line in lines]
