"""Is ``jaxvision.compile`` faster than the plain call and than ``jax.jit`` of it, for a few images on a CPU?

  python tools/bench/small_batches.py --models resnet18 resnet50 --batches 1 2 8 --out FILE.md

The programs of a model and batch run interleaved in one process that keeps its memory. Ratios are of the plain call's
time to the compiled model's, in each round; given are their median and the range of the middle half of the rounds.
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
from tools.bench.processor import processor
from tools.bench.worker import inputs
from tools.shared import command_line

MODELS = ("resnet18", "resnet10t", "resnet50", "seresnext50_32x4d", "efficientnet_b0", "convnext_tiny",
          "deit_small_patch16_224")  # fmt: skip


def programs(name: str, batch: int) -> dict[str, Callable[[], Any]]:
    """The model called as it is, and compiled."""
    import jax

    import jaxvision

    model = jaxvision.create_model(name, key=jax.random.key(0))
    x = jax.device_put(inputs(batch, 224)[0][0])
    variants = {
        "plain": model,
        "compiled": jaxvision.compile(model),
        "without oneDNN": jaxvision.compile(model, use_onednn=False),
        "jit": jax.jit(lambda x: model(x)),  # what one would write by hand: the weights are constants
    }
    return {key: lambda call=call: call(x) for key, call in variants.items()}


def ratio(times: dict[str, list[float]], variant: str, base: str = "plain") -> str:
    """Median and middle half of the rounds' ratios: how many times as fast as ``base``."""
    ratios = [other / own for other, own in zip(times[base], times[variant], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> int:
    """Command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="write the table")
    args = parser.parse_args()
    import jax

    from jaxvision.files import replace_text
    from jaxvision.ops.process import keep_memory

    keep_memory()
    lines = [
        "| model | batch | plain, ms | compiled: times as fast as plain | as jit | without oneDNN: as plain | as jit |"
    ]
    lines.append("|---" * 7 + "|")
    for name in args.models:
        for batch in args.batches:
            times = interleaved(programs(name, batch), args.rounds)
            plain = 1e3 * statistics.median(times["plain"])
            cells = [ratio(times, own, base) for own in ("compiled", "without oneDNN") for base in ("plain", "jit")]
            lines.append(f"| {name} | {batch} | {plain:.1f} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
            jax.clear_caches()
    if args.out:
        head = (
            f"# jaxvision.compile for a few images, {date.today()}\n\n224 px, float32, {args.rounds} interleaved "
            f"rounds; {os.cpu_count()} cores of {processor()}, load {os.getloadavg()[0]:.1f} at the end, "
            f"python {platform.python_version()}, jax {jax.__version__}. Ratios: median and middle half of the rounds; "
            "jit is `jax.jit(lambda x: model(x))`. "
            f"Command: `python {' '.join(sys.argv)}`.\n\n"
        )
        replace_text(args.out, head + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    command_line.start(main)
