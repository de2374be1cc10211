"""Compares XLA's compiler options on a CPU, its own choice with ours: inference (fused) and training steps.

  python tools/bench/cpu_options.py --models resnet50 swin_tiny_patch4_window7_224 --out FILE.md

Programs of one model run interleaved in one process that keeps its memory; medians. Ours are
:func:`jaxvision.ops.program.compiler_options`: the width of vectors, and what the library YNNPACK computes.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench.implementations import interleaved
from tools.bench.models import training
from tools.bench.processor import processor
from tools.bench.worker import inputs
from tools.shared import command_line

MODELS = ("resnet50", "resnest50d", "convnext_tiny", "tf_efficientnet_b0", "swin_tiny_patch4_window7_224")


def programs(name: str, mode: str, batch: int) -> dict[str, Callable[[], Any]]:
    """The model's call, or its training step, with XLA's default options and with ours."""
    import jax

    import jaxvision
    from jaxvision.ops.program import compiler_options

    model = jaxvision.create_model(name, key=jax.random.key(0), num_classes=1000)
    x, y = jax.device_put(inputs(batch, 224)[0])
    calls: dict[str, Callable[[], Any]] = {}
    for key, options in {
        "default": {},
        "ours": compiler_options(attends=model.module.attends, train=mode == "train"),
    }.items():
        if mode == "infer":
            fused = jaxvision.fuse(model)
            compiled = jax.jit(lambda m, x: m(x), compiler_options=options).lower(fused, x).compile()
            calls[key] = lambda compiled=compiled, fused=fused: compiled(fused, x)
        else:
            state, step = training(model)
            compiled = jax.jit(step, compiler_options=options).lower(state, x, y).compile()
            calls[key] = lambda compiled=compiled, state=state: compiled(state, x, y)
    return calls


def main() -> int:
    """Command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--modes", nargs="+", default=["infer", "train"], choices=["infer", "train"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the table")
    args = parser.parse_args()
    import jax

    from jaxvision.files import replace_text
    from jaxvision.ops.process import keep_memory

    keep_memory()
    lines = ["| model | | batch | default, ms | ours, ms | default / ours |", "|---" * 6 + "|"]
    for mode in args.modes:
        batch = {"infer": 32, "train": 16}[mode]
        for name in args.models:
            times = interleaved(programs(name, mode, batch), args.rounds)
            default, ours = (1e3 * statistics.median(times[key]) for key in ("default", "ours"))
            lines.append(f"| {name} | {mode} | {batch} | {default:.0f} | {ours:.0f} | {default / ours:.2f} |")
            print(lines[-1], flush=True)
            jax.clear_caches()
    if args.out:
        head = (
            f"# XLA's compiler options, {date.today()}\n\n224 px, float32, {args.rounds} interleaved rounds, "
            f"medians, memory kept; {os.cpu_count()} cores of {processor()}, load {os.getloadavg()[0]:.1f} at the end, "
            f"python {platform.python_version()}, jax {jax.__version__}. Command: `python {' '.join(sys.argv)}`.\n\n"
        )
        replace_text(args.out, head + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    command_line.start(main)
