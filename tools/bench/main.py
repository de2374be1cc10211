"""Measures speed, memory and accuracy of the ten models of the comparison against timm, in one run: ``make bench``.

  make bench                                                            # a GPU if there is one, else the CPU
  make bench ARGS="--models resnet50,convnext_tiny --modes infer --batch-size 64 --out /tmp/bench"
  make bench ARGS=--pipeline                                            # and JPEGs on disk to augmented batches
  python tools/bench/main.py --val imagenet/val --weights checkpoints/       # top-1 measured here, not published

For each model and mode every variant of both sides is built in a process of its own. Then all run in turn, round after
round, on inputs that are on the device. Reported are medians, their spread, and ratios of medians with a bootstrapped
95 % interval. "default" compares jaxvision under a plain ``jax.jit`` with timm eager; "best" compares each side's
fastest setting: ``jaxvision.compile`` with ``torch.compile``, eager or, on a GPU, CUDA graphs, where both fold batch
normalisation. Training is compiled as ``jaxvision.main`` does it. On a CPU "keep" is ``jaxvision.keep_memory``, for
both sides. On a GPU "fusion" is XLA's experimental convolution fusion, and "portable" does without the library's own
implementations for GPUs.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import fnmatch
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench.models import COMPARISON
from tools.bench.processor import processor
from tools.bench.rounds import Job, Worker, measure
from tools.bench.summary import summarise
from tools.shared import command_line

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ("XLA_FLAGS", "TORCH_LOGS", "OMP_NUM_THREADS")
# What each side is measured with, its default first; "+" joins settings of a worker. (python -m jaxvision.main keeps
# memory by itself.)
VARIANTS = {
    ("cpu", "infer"): {
        "jaxvision": ["plain", "compiled+keep"], "timm": ["eager", "compile", "eager+keep", "compile+keep"]
    },
    ("cpu", "train"): {"jaxvision": ["plain+keep"], "timm": ["eager", "eager+keep", "compile+keep"]},
    ("gpu", "infer"): {
        "jaxvision": ["plain", "compiled", "compiled+fusion"],
        "timm": ["eager", "pure", "pure+graph", "compile", "pure+compile+graph", "pure+compile+autotune"]
    },
    ("gpu", "train"): {"jaxvision": ["plain", "plain+portable"], "timm": ["eager", "compile", "compile+autotune"]},
}  # fmt: skip
BATCHES = {("cpu", "infer"): 32, ("cpu", "train"): 16, ("gpu", "infer"): 32, ("gpu", "train"): 256}


def measured_top1(models: Sequence[str], args: argparse.Namespace) -> dict[str, float]:
    """Top-1 by ``tools/validate.py`` on ``--val``, of the models whose weights are in ``--weights``."""
    found = {}
    for model in models:
        file = next((p for s in ("safetensors", "pth") if (p := args.weights / f"{model}.{s}").is_file()), None)
        if file is None:
            print(f"no {model}.safetensors or .pth in {args.weights}: published top-1", file=sys.stderr)
            continue
        out = args.out / f"top1_{model}.json"
        command = [sys.executable, str(ROOT / "tools" / "validate.py"), model, "--weights", str(file)]
        command += ["--data-name", "folder", "--data-dir", str(args.val.parent), "--split", args.val.name]
        command += ["--out", str(out)]
        subprocess.run(command, check=True)
        found[model] = json.loads(out.read_text())["top1"]
    return found


def job_groups(kind: str, args: argparse.Namespace) -> list[list[Job]]:
    """The jobs in the order of measurement; those of a group are built before the first of them is measured."""

    def job(model: str, mode: str) -> Job:
        wanted = {"jaxvision": args.ours, "timm": args.timm}
        variants = {
            side: [
                name for name in names if not wanted[side] or {name, f"{mode}:{name}"} & set(wanted[side].split(","))
            ]
            for side, names in VARIANTS[kind, mode].items()
        }
        return Job(model, mode, args.batch_size or BATCHES[kind, mode], variants)

    if args.builds > 1:  # a model's training is built while its inference is
        return [[job(model, mode) for mode in args.modes] for model in args.models]
    return [[job(model, mode)] for mode in args.modes for model in args.models]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--models", default=",".join(COMPARISON), help="names, with shell wildcards; default: the comparison's"
    )
    parser.add_argument("--modes", default="infer,train", help="infer, train or both")
    command_line.add_batch_size(parser, 0, "default: 32; training 256, on a CPU 16")
    command_line.add_image_size(parser, 224, "of a side (%(default)s)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="default: bfloat16 on a GPU, else float32")
    parser.add_argument("--timm", default="", help="timm's variants, for example eager,train:compile (all)")
    parser.add_argument("--ours", default="", help="jaxvision's variants, likewise (all)")
    parser.add_argument(
        "--builds",
        type=int,
        default=1,
        help="variants built at the same time (1); more lengthen `compile s`",
    )
    parser.add_argument("--kernels", action="store_true", help="on a GPU: also the time of each kernel, in the JSON")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--resume", action="store_true", help="keep the rows of today's result file and add to them")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each sample, at least one call")
    parser.add_argument(
        "--timeout", type=float, default=1200, help="seconds until a worker that does not answer is ended"
    )
    parser.add_argument("--val", type=Path, help="ImageNet's validation images in class folders: measure top-1")
    parser.add_argument("--weights", type=Path, help="with --val: a folder of MODEL.safetensors or MODEL.pth")
    parser.add_argument(
        "--pipeline", action="store_true", help="also JPEGs to augmented batches; see tools/bench/pipeline.py"
    )
    parser.add_argument(
        "--data-dir",
        "--data",
        dest="data",
        type=Path,
        default=Path("data/bench_input"),
        help="with --pipeline: images, made there",
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    patterns = args.models.split(",")
    from jaxvision import list_models

    known = list_models()
    args.models = [name for p in patterns for name in (fnmatch.filter(known, p) if "*" in p else [p])]
    if unknown := [name for name in args.models if name not in known]:
        parser.error(f"unknown models: {', '.join(unknown)}; jaxvision.list_models() names them")
    args.modes = args.modes.split(",")
    if not set(args.modes) <= {"infer", "train"}:
        parser.error("--modes are infer and train")
    if bool(args.val) != bool(args.weights):
        parser.error("--val and --weights go together")
    if args.rounds < 1 or args.seconds <= 0 or args.batch_size < 0:
        parser.error("--rounds, --seconds and --batch-size must be positive")
    return args


def machine() -> dict[str, Any]:
    """Where this runs."""
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem", "--format=csv,noheader"]
        card = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        card = None
    return {
        "cpu": processor(), "cpus": os.cpu_count(), "platform": platform.platform(),
        "python": platform.python_version(), "gpu": card, "load": os.getloadavg(),
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
    }  # fmt: skip


def new_document(
    here: dict[str, Any], kind: str, args: argparse.Namespace, argv: Sequence[str] | None
) -> dict[str, Any]:
    """A result without rows, with the device's rates, which are measured now."""
    worker = Worker("rates", timeout=args.timeout, dtype=args.dtype, variant="keep" if kind == "cpu" else "plain")
    rates = worker.ask("setup").get("result") or {"flops_per_s": float("nan"), "bytes_per_s": float("nan")}
    worker.close()
    return {
        "date": datetime.date.today().isoformat(), "machine": here, "device": kind, "dtype": args.dtype,
        "versions": {}, "command": " ".join(["tools/bench/main.py", *(argv or sys.argv[1:])]), "rates": rates,
        "rounds": args.rounds, "builds": args.builds, "top1": {}, "minutes": 0.0, "summary": [], "rows": [],
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, writes JSON, table and plots; returns the exit status."""
    args = parse_args(argv)
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from jaxvision.files import replace_text
    from tools.bench.pipeline import measure_all
    from tools.bench.plot import plot_all
    from tools.bench.table import bench_table

    began, here = time.monotonic(), machine()
    kind = "gpu" if here["gpu"] else "cpu"
    args.dtype = args.dtype or ("bfloat16" if kind == "gpu" else "float32")
    groups = job_groups(kind, args)
    name = (here["gpu"] or f"cpu{here['cpus']}").split(",")[0].replace("NVIDIA ", "").replace(" ", "_").lower()
    path = args.out / f"bench_{name}_{datetime.date.today()}.json"
    document = json.loads(path.read_text()) if args.resume and path.is_file() else new_document(here, kind, args, argv)
    document["top1"] = dict.fromkeys(args.models, "published") | document["top1"]
    summaries, rates = document["summary"], document["rates"]
    done = {(row["model"], row["mode"]) for row in document["rows"]}
    before = document["minutes"]
    groups = [[job for job in group if (job.model, job.mode) not in done] for group in groups]

    def write() -> None:
        document["minutes"] = before + (time.monotonic() - began) / 60
        replace_text(path, json.dumps(document, indent=1) + "\n")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("bench", total=sum(map(len, groups)))
        for row in itertools.chain.from_iterable(measure(group, args) for group in groups):
            document["rows"].append(dataclasses.asdict(row))
            document["versions"] |= {k: v["version"] for k, v in row.variants.items() if "version" in v}
            summaries.append(summarise(row, rates))
            write()  # a run that is cut off leaves what it measured
            speeds = ", ".join(f"{key} {value:.1f}" for key, value in summaries[-1]["images_per_s"].items())
            errors = "; ".join(f"{key}: {text}" for key, text in summaries[-1]["errors"].items())
            print(f"{row.model} {row.mode}, batch {row.batch}: {speeds} img/s {errors}", flush=True)
            progress.update(task, advance=1, description=f"after {row.model} {row.mode}")
    if args.val:
        for model, value in measured_top1(args.models, args).items():
            document["top1"][model] = "measured"
            for summary in summaries:
                if summary["model"] == model:
                    summary["top1"] = value
    if args.pipeline:
        document["pipeline"] = measure_all(args.data, images=2048, rounds=2, timeout=args.timeout)
    write()
    table = bench_table(document)
    print("\n" + table)
    replace_text(path.with_suffix(".md"), table + "\n")
    pictures = plot_all(document, path.with_suffix(""))
    print(f"\nwritten: {path}, {path.with_suffix('.md')}, {', '.join(map(str, pictures))}")
    return 0


if __name__ == "__main__":
    command_line.start(main)
