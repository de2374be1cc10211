"""Measures JPEGs on disk to augmented batches, against timm: what ``make bench ARGS=--pipeline`` adds.

  python tools/bench/pipeline.py --images 2048 --rounds 2

Both sides read the same images with the same augmentation (random resized crop, flip, RandAugment
``rand-m9-mstd0.5-inc1``), normalised and on the device at the end. jaxvision decodes on the host and augments on the
device; timm does all but the normalisation on the host. Each side runs in a process of its own, in turn.

The last column of the table is what limits training: the host, which may be given all its cores, the augmentation or
the train step. On a CPU they share the cores, and the largest part of an image's time is named.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench.input import BATCH, RAND, SIZE, cpu_seconds, jaxvision_batches, make_images, timm_loader
from tools.shared import command_line

ROOT = Path(__file__).resolve().parents[2]
SIDES = ("jaxvision", "timm")
TRANSFORM = "jaxvision filter, folder"
AHEAD = 6  # batches taken before the clock starts: loaders have some ready, which would cost nothing


def augment_program() -> Any:
    """The device's program of uint8 images (N, S, S, 3) and a step: flip, RandAugment, normalisation."""
    from jaxvision.config import resolve
    from jaxvision.data.sources import SyntheticSource
    from jaxvision.main import load_config
    from jaxvision.train import build

    fields = [f"--config.augment.policy={RAND}", "--config.augment.interpolation=bicubic"]
    c = resolve(load_config(str(ROOT / "configs" / "resnet50_a2.py"), fields))
    mesh = build.start_devices(c)
    return build.augment_program(c, build.build_network(c, SyntheticSource(64, 1000, 32, seed=0)), mesh)


def measure_jaxvision(folder: Path, images: int) -> dict[str, float]:
    """Seconds an image in this process: the host alone, the augmentation alone, and both as training runs them."""
    import jax
    import numpy as np

    augment = augment_program()
    resident = jax.device_put(np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3)).astype(np.uint8))
    jax.block_until_ready(augment(resident, np.int32(0)))
    began = time.perf_counter()
    for step in range(3):
        out = augment(resident, np.int32(step))
    jax.block_until_ready(out)
    result = {"augment_s": (time.perf_counter() - began) / (3 * BATCH)}

    stream = jaxvision_batches(TRANSFORM, folder, threads=os.cpu_count() or 1)
    take(stream, AHEAD)
    cpu, done = cpu_seconds(), 0
    while done < images:
        done += len(next(stream)["label"])
    result["host_cpu_s"] = (cpu_seconds() - cpu) / done
    # On a CPU the augmentation takes nearly all of the time.
    steps = max(2, images // BATCH // (4 if jax.default_backend() == "cpu" else 1))
    cpu, wall = cpu_seconds(), time.perf_counter()
    for step in range(steps):
        out = augment(next(stream)["image"], np.int32(step))
    jax.block_until_ready(out)
    done = steps * BATCH
    return result | {"whole_s": (time.perf_counter() - wall) / done, "whole_cpu_s": (cpu_seconds() - cpu) / done}


def take(stream: Iterator[Any], count: int) -> None:
    """Takes ``count`` batches and drops them."""
    for _ in range(count):
        next(stream)


def measure_timm(folder: Path, images: int) -> dict[str, float]:
    """Seconds an image of timm's loader in this process and its workers, with its prefetcher, which normalises."""
    from tools.parity.reference import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loader = timm_loader(RAND, folder, workers=os.cpu_count() or 1, device=device)

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    stream = endless()
    take(stream, AHEAD)
    cpu, wall, done = cpu_seconds(), time.perf_counter(), 0
    while done < images:
        done += len(next(stream)[0])
    if device.type == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    return {"whole_s": wall / done, "whole_cpu_s": cpu / done, "host_cpu_s": cpu / done}


def measure_all(data: Path, *, images: int, rounds: int, timeout: float) -> dict[str, Any]:
    """Seconds an image of each side in turn: every sample and the medians; of a side that fails, its error."""
    make_images(data, 1024)
    samples: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    errors: dict[str, str] = {}
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    for _ in range(rounds):
        for side in SIDES:
            if side in errors:
                continue
            command = [sys.executable, str(Path(__file__)), "--worker", side, "--data", str(data)]
            try:
                run = subprocess.run(
                    [*command, "--images", str(images)],
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=timeout,
                )
                samples[side].append(json.loads(run.stdout.strip().splitlines()[-1]))
            except subprocess.TimeoutExpired:
                errors[side] = f"no answer in {timeout:.0f} s"
            except (ValueError, IndexError):
                errors[side] = (run.stderr.strip().splitlines() or [f"ended with status {run.returncode}"])[-1][:300]
    medians = {
        side: {key: statistics.median(s[key] for s in found) for key in found[0]}
        for side, found in samples.items()
        if found
    }
    settings = {"size": SIZE, "batch": BATCH, "augmentation": RAND, "images": images, "rounds": rounds}
    return {"settings": settings, "samples": samples, "medians": medians, "errors": errors}


def bottleneck(parts: dict[str, float], *, shared: bool) -> tuple[str, float]:
    """The part that limits training, and images per second.

    Args:
      parts: seconds an image of "host" and of each part on the device.
      shared: whether all run on the same cores, one after the other; otherwise host and device overlap.
    """
    device = {name: s for name, s in parts.items() if name != "host"}
    seconds = sum(parts.values()) if shared else max(parts["host"], sum(device.values()))
    if not shared and parts["host"] < sum(device.values()):
        parts = device
    return max(parts, key=parts.get), 1 / seconds


def pipeline_table(document: dict[str, Any]) -> str:
    """Markdown of a result of ``tools/bench/main.py --pipeline``."""
    found, cores = document["pipeline"], document["machine"]["cpus"]
    medians, shared = found["medians"], document["device"] == "cpu"
    settings = found["settings"]
    lines = [
        "## Whole pipeline",
        "",
        f"JPEGs (400 x 480, 110 KB) to augmented {settings['size']} px batches of {settings['batch']} on the device, "
        f"{settings['augmentation']}, {settings['rounds']} interleaved rounds.",
        "",
        "| side | img/s | img/s a core | host alone, img/s a core | augmentation ms an image |",
        "|---|---|---|---|---|",
    ]
    for side, m in medians.items():
        augment = f"{1e3 * m['augment_s']:.2f}" if "augment_s" in m else "on the host"
        host = f"{1 / m['host_cpu_s']:.0f}" if "augment_s" in m else ""
        lines.append(f"| {side} | {1 / m['whole_s']:.0f} | {1 / m['whole_cpu_s']:.0f} | {host} | {augment} |")
    lines += [f"- {side}: {error}" for side, error in found["errors"].items()]
    trained = [s for s in document["summary"] if s["mode"] == "train"]
    if trained:
        lines += [
            "",
            "| model | " + " | ".join(f"{side} img/s with its step, limited by" for side in medians) + " |",
            "|---" * (1 + len(medians)) + "|",
        ]
    for s in trained:
        cells = []
        for side, m in medians.items():
            if side not in s:
                cells.append("failed")
                continue
            step = 1 / s["images_per_s"][f"{side} {s[side]['variant']}"]
            parts = {"host": m["host_cpu_s"] / cores, "augmentation": m.get("augment_s", 0.0), "train step": step}
            name, rate = bottleneck(parts, shared=shared)
            cells.append(f"{rate:.1f}, {name}")
        lines.append(f"| {s['model']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Command line: the worker of one side, or both without a model."""
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--data-dir", "--data", dest="data", type=Path, default=Path("data/bench_input"),
        help="where the images are made",
    )  # fmt: skip
    parser.add_argument("--images", type=int, default=1024, help="measured per side and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        measure = {"jaxvision": measure_jaxvision, "timm": measure_timm}[args.worker]
        print(json.dumps(measure(args.data, args.images)), flush=True)
        os._exit(0)  # loaders' threads do not end by themselves
    print(json.dumps(measure_all(args.data, images=args.images, rounds=args.rounds, timeout=1200), indent=1))
    return 0


if __name__ == "__main__":
    command_line.start(main)
