"""Measures seconds from a command to its first training step, cold and warm, and what Python adds to every step.

  python tools/bench/startup.py                                   # ResNet-50, 224 px, synthetic images
  python tools/bench/startup.py --config configs/convnext_t.py

"cold" starts with an empty compilation cache, "warm" with the one of the cold run. Python's share of a step is the time
of calling a compiled program that takes the same arguments, a whole train state, and does nothing.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench.processor import processor
from tools.shared import command_line

ROOT = Path(__file__).resolve().parents[2]
FIRST_STEP = re.compile(r"step +1\b")


def first_step(config: str, batch: int, cache: Path, workdir: Path) -> dict[str, float]:
    """Seconds of a run until it starts to compile, and until its first step is logged; then it is killed."""
    overrides = {
        "data.name": "synthetic", "data.synthetic_classes": "1000", "data.synthetic_examples": str(2 * batch),
        "batch_size": str(batch), "steps": "2", "log_every": "1",
    }  # fmt: skip
    command = [sys.executable, "-u", "-m", "jaxvision.main", "--config", config, "--workdir", str(workdir)]
    command += [f"--config.{name}={value}" for name, value in overrides.items()]
    began, found, seen = time.perf_counter(), {}, []
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        seen.append(line)
        if "compiling the train step ..." in line:
            found["compiling_s"] = time.perf_counter() - began
        if FIRST_STEP.match(line):
            found["first_step_s"] = time.perf_counter() - began
            break
    process.kill()
    process.wait()
    if "first_step_s" not in found:
        raise RuntimeError(f"{' '.join(command)} made no step:\n{''.join(seen[-20:])}")
    return found


def python_overhead(model: str, calls: int) -> dict[str, float]:
    """Milliseconds of a call that does nothing with a train state: the median, and the 90th percentile."""
    import jax
    import jax.numpy as jnp

    import jaxvision
    from tools.bench.models import training

    state, _ = training(jaxvision.create_model(model, key=jax.random.key(0)))
    state = jax.tree.map(jnp.copy, jax.device_put(state))
    idle = jax.jit(lambda state, x: (state.replace(step=state.step + x), x), donate_argnums=0)
    one = jnp.int32(1)
    program = idle.lower(state, one).compile()
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        state, _ = program(state, one)
        times.append(1e3 * (time.perf_counter() - began))
        jax.block_until_ready(state.step)
    times.sort()
    leaves = len(jax.tree.leaves(state))
    return {"leaves": leaves, "median_ms": statistics.median(times), "p90_ms": times[int(0.9 * calls)]}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--config", default="configs/resnet50_a2.py")
    parser.add_argument("--model", default="resnet50", help="whose train state the empty program takes")
    command_line.add_batch_size(parser, 0, "images a step; 0: 16 on a CPU, 256 elsewhere")
    parser.add_argument("--calls", type=int, default=300, help="of the empty program")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args(argv)
    from jaxvision.files import replace_text
    from jaxvision.ops.process import expects_cpu

    batch = args.batch_size or (16 if expects_cpu() else 256)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm"):
            result[name] = first_step(args.config, batch, Path(folder) / "cache", Path(folder) / name)
            print(f"{name}: first step after {result[name]['first_step_s']:.1f} s", flush=True)
    result["python"] = python_overhead(args.model, args.calls)
    print(f"Python: {result['python']['median_ms']:.2f} ms a step, {result['python']['leaves']} arrays")
    import jax

    device = f"cpu{os.cpu_count()}" if jax.default_backend() == "cpu" else jax.devices()[0].device_kind
    document = {
        "date": date.today().isoformat(), "device": device, "cpu": processor(), "platform": platform.platform(),
        "jax": jax.__version__, "config": args.config, "batch": batch, **result,
    }  # fmt: skip
    path = args.out / f"startup_{device.replace(' ', '_').lower()}_{document['date']}.json"
    replace_text(path, json.dumps(document, indent=1) + "\n")
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    command_line.start(main)
