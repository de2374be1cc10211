"""What the augmentation on the device costs: milliseconds per image, and its share of the time of a training step.

For each recipe, its augmentation (all stages of jaxvision/augment/program.py) and its train step (with Mixup and
CutMix) at its image size are measured alternately. `make bench-input` measures what the host does.

  python tools/bench/augment.py                      # all recipes
  python tools/bench/augment.py convnext_t --batch 64 --rounds 9
"""

from __future__ import annotations

import fnmatch
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax
import numpy as np

from jaxvision.config import Config, resolve
from jaxvision.data.sources import SyntheticSource
from jaxvision.files import replace_file
from jaxvision.main import load_config
from jaxvision.train import build
from tools.bench.processor import processor
from tools.shared import command_line

ROOT = Path(__file__).resolve().parents[2]
RECIPES = (
    "resnet_rs50", "resnet50_a2", "resnet50_tv2", "seresnext50", "resnest50", "efficientnet_b0", "efficientnetv2_b0",
    "convnext_t", "swin_t", "deit_s", "deit3_s", "vit_s16",
)  # fmt: skip


def load(name: str, batch: int) -> Config:
    """A recipe's config at another batch size."""
    c = load_config(str(ROOT / "configs" / f"{name}.py"), [])
    c.batch_size, c.replicas, c.steps, c.eval.image_size = batch, 0, 100, c.model.image_size
    return resolve(c)


def photos(count: int, size: int) -> np.ndarray:
    """Smooth random images, uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    rows = np.arange(size) * 8 // size
    return np.ascontiguousarray(small[:, rows][:, :, rows])


def timed(call: Callable[[], Any]) -> float:
    """Seconds until the results of a call are there."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def measure(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per image of a recipe's augmentation and train step: medians of ``rounds`` measurements."""
    c = load(name, batch)
    mesh = build.start_devices(c)
    source = SyntheticSource(64, 1000, 32, seed=0)
    network = build.build_network(c, source)
    state, optimizer = build.initial_state(c, network, mesh)
    run = build.lengths(c, len(source))
    augment = build.augment_program(c, network, mesh)
    images, labels = jax.device_put((photos(batch, c.model.image_size), np.arange(batch, dtype=np.int32)))
    seen = augment(images, np.int32(0))
    step = build.train_program(c, network, optimizer, run, mesh).lower(state, seen, labels, None).compile()
    state, _ = step(state, seen, labels, None)
    samples: dict[str, list[float]] = {"augment": [], "step": []}
    for i in range(rounds):
        samples["augment"].append(1e3 * timed(lambda i=i: augment(images, np.int32(i))) / batch)
        began = time.perf_counter()
        state, _ = step(state, seen, labels, None)
        jax.block_until_ready(state.step)
        samples["step"].append(1e3 * (time.perf_counter() - began) / batch)
    shares = [a / (a + b) for a, b in zip(samples["augment"], samples["step"], strict=True)]
    return {
        "recipe": name, "model": c.model.name, "size": c.model.image_size,
        "augment_ms": statistics.median(samples["augment"]), "step_ms": statistics.median(samples["step"]),
        "share": statistics.median(shares), "samples": samples,
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], help="names of recipes, with shell wildcards (all)")
    command_line.add_batch_size(parser, 0, "images; 0: 16 on a CPU, 128 elsewhere (0)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each program (5)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the result file")
    args = parser.parse_args(argv)
    chosen = [name for name in RECIPES if any(fnmatch.fnmatch(name, pattern) for pattern in args.patterns)]
    if not chosen:
        parser.error(f"no recipe matches {' '.join(args.patterns)}; there are: {', '.join(RECIPES)}")
    backend = jax.default_backend()
    batch = args.batch_size or (16 if backend == "cpu" else 128)
    rows = []
    for name in chosen:
        rows.append(measure(name, batch, args.rounds))
        row = rows[-1]
        print(f"{name}: {row['augment_ms']:.2f} of {row['augment_ms'] + row['step_ms']:.1f} ms per image", flush=True)
        jax.clear_caches()
    lines = ["| recipe | model | px | augmentation ms | train step ms | share % |", "|---" * 6 + "|"]
    for row in rows:
        figures = f"{row['augment_ms']:.2f} | {row['step_ms']:.2f} | {100 * row['share']:.1f}"
        lines.append(f"| {row['recipe']} | {row['model']} | {row['size']} | {figures} |")
    print("\n".join(lines))
    device = jax.devices()[0].device_kind if backend != "cpu" else f"{os.cpu_count()} CPUs"
    document = {
        "date": date.today().isoformat(), "device": device, "cpu": processor(), "platform": platform.platform(),
        "jax": jax.__version__, "batch": batch, "rounds": args.rounds, "rows": rows, "table": lines,
    }  # fmt: skip
    stem = f"cpu{os.cpu_count()}" if backend == "cpu" else device.replace(" ", "_").lower()
    path = args.out / f"augment_{stem}_{document['date']}.json"
    replace_file(path, lambda part: part.write_text(json.dumps(document, indent=1) + "\n"))
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    command_line.start(main)
