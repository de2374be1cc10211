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
both sides. On a GPU "fusion" is XLA's experimental convolution fusion.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import fnmatch
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench.models import COMPARISON
from tools.bench.processor import processor

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
        "jaxvision": ["plain", "compiled", "compiled+fusion"], "timm": ["eager", "pure", "pure+graph", "compile"]
    },
    ("gpu", "train"): {"jaxvision": ["plain"], "timm": ["eager", "compile"]},
}  # fmt: skip
BATCHES = {("cpu", "infer"): 32, ("cpu", "train"): 16, ("gpu", "infer"): 32, ("gpu", "train"): 256}
LEAST_BATCH = 4
PAUSE = 0.3  # seconds before each sample: the other side's threads may still spin for more work


class Worker:
    """A process of ``tools/bench/worker.py``."""

    def __init__(self, side: str, *, timeout: float, **arguments: Any) -> None:
        self.timeout = timeout
        flags = [f"--{key}={value}" for key, value in arguments.items()]
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


def measure(model: str, mode: str, batch: int, chosen: dict[str, list[str]], args: argparse.Namespace) -> Row:
    """One row; where one side runs out of memory, both get half the batch."""
    row = Row(model, mode, batch, args.size, args.dtype, {})
    workers: dict[str, Worker] = {}
    try:
        for side, variants in chosen.items():
            for variant in variants:
                key = f"{side} {variant}"
                worker = Worker(
                    side, timeout=args.timeout, model=model, mode=mode, variant=variant, batch=batch, size=args.size,
                    dtype=args.dtype,
                )  # fmt: skip
                answer = worker.ask("setup")
                row.variants[key] = answer.get("result", answer)
                if "error" in answer:
                    worker.close()
                    if out_of_memory(answer["error"]) and batch // 2 >= LEAST_BATCH:
                        for other in workers.values():
                            other.close()
                        workers = {}
                        return measure(model, mode, batch // 2, chosen, args)
                else:
                    workers[key] = worker
        run_rounds(row, workers, args)
    finally:
        for worker in workers.values():
            worker.close()
    return row


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


def interval(a: Sequence[float], b: Sequence[float], count: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of median(b) / median(a)."""
    rng = random.Random(0)
    ratios = sorted(
        statistics.median(rng.choices(b, k=len(b))) / statistics.median(rng.choices(a, k=len(a))) for _ in range(count)
    )
    return ratios[int(0.025 * count)], ratios[int(0.975 * count)]


def summarise(row: Row, rates: dict[str, Any]) -> dict[str, Any]:
    """What the table and the plots show: images per second, ratios, memory, shares of the device's rates."""
    spec = weights_of(row.model)
    speed = {
        key: row.batch / statistics.median(v["seconds_per_call"])
        for key, v in row.variants.items()
        if v.get("seconds_per_call")
    }
    result: dict[str, Any] = {
        "model": row.model, "mode": row.mode, "batch": row.batch, "size": row.size, "dtype": row.dtype,
        "top1": top1_at(spec, row.size), "images_per_s": speed,
        "errors": {key: v["error"] for key, v in row.variants.items() if "error" in v},
    }  # fmt: skip
    best = {
        side: max((key for key in speed if key.startswith(side)), key=speed.get, default=None)
        for side in ("jaxvision", "timm")
    }
    default = {side: next((key for key in row.variants if key.startswith(side)), "") for side in best}
    for name, pair in (("best", best), ("default", default)):
        if all(key in speed for key in pair.values()):
            ours, theirs = (row.variants[key]["seconds_per_call"] for key in pair.values())
            ratio = statistics.median(theirs) / statistics.median(ours)
            result[name] = {"ratio": ratio, "interval": interval(ours, theirs), "pair": list(pair.values())}
    for side, key in best.items():
        if key:
            memory, compiled = row.variants[key]["memory"] or {}, row.variants[key]["compile_s"]
            peak = memory.get("device_peak") or memory.get("host_peak")
            result[side] = {"variant": key.partition(" ")[2], "memory": peak, "compile_s": compiled}
    ours = row.variants.get(best["jaxvision"] or "", {})
    if ours.get("flops"):
        per_second = 1 / statistics.median(ours["seconds_per_call"])
        published = 2e9 * spec.gmacs * (row.size / spec.gmacs_at) ** 2
        passes = 3 if row.mode == "train" else 1
        result["roofline"] = {
            "flops_per_image": ours["flops"] / row.batch, "published_flops": published,
            "bytes_per_image": ours["bytes"] / row.batch,
            "share_of_products": passes * published * row.batch * per_second / rates["flops_per_s"],
            "share_of_copies": ours["bytes"] * per_second / rates["bytes_per_s"],
        }  # fmt: skip
    return result


def weights_of(model: str) -> Any:
    """The spec of the comparison's weights, ImageNet-1k only, where the default ones are others."""
    tags = {
        "convnext_tiny": "fb_in1k", "swin_tiny_patch4_window7_224": "ms_in1k", "resnet50": "a1_in1k",
        "tf_efficientnet_b0": "aa_in1k",
    }  # fmt: skip
    from jaxvision import model_spec

    return model_spec(f"{model}.{tags[model]}" if model in tags else model)


def top1_at(spec: Any, size: int) -> float | None:
    """Published top-1 at this size where there is one, else at the weights' own."""
    return spec.top1_at_test if spec.test_input_size == size and spec.top1_at_test else spec.top1


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


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", default=",".join(COMPARISON), help="names, with shell wildcards; default: the comparison's"
    )
    parser.add_argument("--modes", default="infer,train", help="infer, train or both")
    parser.add_argument(
        "--batch-size", "--batch", dest="batch", type=int, default=0, help="default: 32; training 256, on a CPU 16"
    )
    parser.add_argument("--image-size", "--size", dest="size", type=int, default=224, help="pixels")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="default: bfloat16 on a GPU, else float32")
    parser.add_argument("--timm", default="", help="timm's variants, for example eager,compile; default: all")
    parser.add_argument("--rounds", type=int, default=9)
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
    if args.rounds < 1 or args.seconds <= 0 or args.batch < 0:
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
    worker = Worker("rates", timeout=args.timeout, dtype=args.dtype, variant="keep" if kind == "cpu" else "plain")
    rates = worker.ask("setup").get("result") or {"flops_per_s": float("nan"), "bytes_per_s": float("nan")}
    worker.close()
    jobs = [(model, mode) for mode in args.modes for model in args.models]
    document: dict[str, Any] = {
        "date": datetime.date.today().isoformat(), "machine": here, "device": kind, "dtype": args.dtype,
        "versions": {}, "command": " ".join(["tools/bench/main.py", *(argv or sys.argv[1:])]), "rates": rates,
        "rounds": args.rounds, "top1": dict.fromkeys(args.models, "published"), "minutes": 0.0, "summary": [],
        "rows": [],
    }  # fmt: skip
    summaries = document["summary"]
    name = (here["gpu"] or f"cpu{here['cpus']}").split(",")[0].replace("NVIDIA ", "").replace(" ", "_").lower()
    path = args.out / f"bench_{name}_{document['date']}.json"

    def write() -> None:
        document["minutes"] = (time.monotonic() - began) / 60
        replace_text(path, json.dumps(document, indent=1) + "\n")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("bench", total=len(jobs))
        for model, mode in jobs:
            progress.update(task, description=f"{model} {mode}")
            chosen = {side: list(v) for side, v in VARIANTS[kind, mode].items()}
            if args.timm:
                chosen["timm"] = args.timm.split(",")
            row = measure(model, mode, args.batch or BATCHES[kind, mode], chosen, args)
            document["rows"].append(dataclasses.asdict(row))
            document["versions"] |= {k: v["version"] for k, v in row.variants.items() if "version" in v}
            summaries.append(summarise(row, rates))
            write()  # a run that is cut off leaves what it measured
            speeds = ", ".join(f"{key} {value:.1f}" for key, value in summaries[-1]["images_per_s"].items())
            errors = "; ".join(f"{key}: {text}" for key, text in summaries[-1]["errors"].items())
            print(f"{model} {mode}, batch {row.batch}: {speeds} img/s {errors}", flush=True)
            progress.advance(task)
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
    sys.exit(main())
