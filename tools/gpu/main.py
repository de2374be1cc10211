"""Everything that is to be known about a GPU, in one command that can be cut off and goes on: ``make gpu``.

  make gpu                                          # all slices; what the result file has is not done again
  make gpu ARGS="--only check,resume --minutes 5"
  make gpu ARGS=--plan                          # rehearses all of it on this machine, with tiny networks

The slices, in order:

  check    logits and gradients of one network a family beside timm's in float64; see tools/gpu/check.py
  resume   whether a run repeats its bits, also when it is started again; see tools/gpu/resume.py
  trials   several ways to compute the same operation, timed; see tools/gpu/trials.py
  bench    speed and memory beside timm, and where the time goes, model by model; see tools/bench/main.py
  augment  the share of the augmentation in a train step; see tools/bench/augment.py
  startup  seconds to the first step; see tools/bench/startup.py

Several commands of "check" and of "resume" run at the same time, the others alone. On an H200 a model takes three to
five minutes of "bench", most of which XLA and torch.compile use to choose kernels. The result is
OUT/gpu_DEVICE_DATE.json, written after each command. No environment or setting of the card is changed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.shared import command_line

ROOT = Path(__file__).resolve().parents[2]
# One network of each family, and what is special in one.
CHECKED = (
    "resnet50", "resnetrs50", "seresnext50_32x4d", "resnest50d", "tf_efficientnet_b0", "tf_efficientnetv2_b0",
    "convnext_tiny", "swin_tiny_patch4_window7_224", "deit_small_patch16_224",
)  # fmt: skip
TINY = ("resnet10t", "deit_tiny_patch16_224")
TRIALS = ("attention", "activation", "norm", "pooling", "stem", "grouped", "depthwise")
LEAST_SECONDS = 15  # in which a command can do anything
# The most telling first: a run that is cut off has those.
BENCH = (
    "resnet50", "convnext_tiny", "tf_efficientnetv2_b0", "swin_tiny_patch4_window7_224", "deit_small_patch16_224",
    "resnetrs50", "seresnext50_32x4d", "resnest50d", "tf_efficientnet_b0", "resnet50d",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Slice:
    """Commands that belong together: label and arguments of each, and how many run at the same time."""

    commands: dict[str, list[str]]
    together: int = 1


def slices(*, rehearse: bool, out: Path) -> dict[str, Slice]:
    """All slices by name; with ``rehearse`` tiny ones for a CPU."""
    small = ["--size", "64", "--count", "2"] if rehearse else []
    check = {name: ["tools/gpu/check.py", name, *small] for name in (TINY if rehearse else CHECKED)}
    tiny = ["--tiny", "--steps", "4"] if rehearse else []
    resume = {
        "as it is": ["tools/gpu/resume.py", *tiny],
        "deterministic": ["tools/gpu/resume.py", "--deterministic", *tiny],
    }
    few = ["--batch", "1", "--rounds", "1"] if rehearse else []
    trials = {name: ["tools/gpu/trials.py", name, *few] for name in (TRIALS[1:4] if rehearse else TRIALS)}
    bench = ["tools/bench/main.py", "--out", str(out), "--kernels", "--resume", "--rounds", "1" if rehearse else "5"]
    bench += ["--seconds", "0.01", "--timm", "eager", "--image-size", "64", "--batch-size", "2"] if rehearse else []
    bench += [] if rehearse else ["--seconds", "0.3", "--builds", "4"]
    augment = [
        "tools/bench/augment.py",
        "--out",
        str(out),
        *(["seresnext50", "--batch", "2", "--rounds", "1"] if rehearse else []),
    ]
    return {
        "check": Slice(check, 2 if rehearse else 3),
        "resume": Slice(resume, 2),
        "trials": Slice(trials),
        "bench": Slice({name: [*bench, "--models", name] for name in (TINY[:1] if rehearse else BENCH)}),
        "augment": Slice({"all": augment}),
        "startup": Slice({"all": ["tools/bench/startup.py", "--out", str(out)]}),
    }


def versions() -> dict[str, str]:
    """Of everything that a result depends on; asked of a process of its own, which gives the card back."""
    code = (
        "import importlib.metadata as m, json, platform, jax; d = jax.devices()[0]; "
        "names = ('jax', 'jaxlib', 'jax-cuda13-plugin', 'nvidia-cudnn-cu13', 'flax', 'torch', 'timm', 'triton'); "
        "have = {x.metadata['Name'].lower() for x in m.distributions()}; "
        "print(json.dumps({'device': d.device_kind, 'backend': d.platform, 'python': platform.python_version()} "
        "| {n: m.version(n) for n in names if n in have}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    return json.loads(found.stdout.strip().splitlines()[-1])


def environment() -> dict[str, str]:
    """For the commands: none takes the card's memory before it needs it."""
    return os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONPATH": os.pathsep.join(
        [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    ), "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}  # fmt: skip


def run(arguments: list[str], log: Path, seconds: float) -> dict[str, Any]:
    """Runs a command; its status, seconds, and every line of JSON that it prints."""
    began = time.perf_counter()
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            output, _ = process.communicate(timeout=max(seconds, 1.0))
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    text = [line for line in output.splitlines() if not line.startswith("{")]
    return {
        "status": process.returncode, "seconds": round(time.perf_counter() - began, 1), "rows": rows,
        "output": text[-40:], "errors": log.read_text()[-1500:],
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--only", default="", help="slices, separated by commas (all)")
    parser.add_argument("--minutes", type=float, default=600.0, help="after which commands are ended (600)")
    parser.add_argument("--plan", dest="rehearse", action="store_true", help="tiny networks, on any machine")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results")
    args = parser.parse_args(argv)
    from jaxvision.files import replace_text

    args.out = args.out.absolute()
    every = slices(rehearse=args.rehearse, out=args.out)
    wanted = args.only.split(",") if args.only else list(every)
    if unknown := set(wanted) - set(every):
        parser.error(f"unknown slices: {', '.join(sorted(unknown))}; there are: {', '.join(every)}")
    end, lock = time.monotonic() + 60 * args.minutes, threading.Lock()
    here = versions()
    if here["backend"] == "cpu" and not args.rehearse:
        parser.error("JAX finds no GPU here; --plan tries all on a CPU")
    args.out.mkdir(parents=True, exist_ok=True)
    name = here["device"].replace("NVIDIA ", "").split(" ")[0].lower()
    path = args.out / f"gpu_{name}_{date.today()}.json"
    document = json.loads(path.read_text()) if path.is_file() else {"versions": here, "results": {}}
    for title in wanted:
        results = document["results"].setdefault(title, {})
        todo = {k: v for k, v in every[title].commands.items() if results.get(k, {"status": 1})["status"]}

        def work(label: str, arguments: list[str], title: str = title, results: dict = results) -> None:
            left, log = end - time.monotonic(), args.out / f"{title}_{label.replace(' ', '_')}.log"
            if left < LEAST_SECONDS:
                print(f"{title} {label}: no time left", flush=True)
                return
            row = run(arguments, log, left)
            log.unlink()
            print(f"{title} {label}: status {row['status']}, {row['seconds']} s", flush=True)
            if row["status"]:
                print(row["errors"][-600:], flush=True)
            with lock:
                results[label] = row
                replace_text(path, json.dumps(document, indent=1) + "\n")

        with ThreadPoolExecutor(every[title].together) as pool:
            for future in [pool.submit(work, label, arguments) for label, arguments in todo.items()]:
                future.result()
    print(f"written to {path}")
    return int(any(row["status"] for title in wanted for row in document["results"][title].values()))


if __name__ == "__main__":
    command_line.start(main)
