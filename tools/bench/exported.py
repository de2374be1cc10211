"""Speed of exported models: ONNX Runtime on tools/export.py's file, jaxvision.compile, and timm's variants.

  python tools/bench/exported.py --out benchmarks/results/exported.md      # three models, 1 and 32 images
  python tools/bench/exported.py --models resnet50 --batches 1 --rounds 3

Every variant has a process of its own with all cores, and they take turns, round after round; medians. Besides the
table, FILE.json gets the time of each round.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import sys
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench.processor import processor
from tools.bench.rounds import Job, Row, measure
from tools.shared import command_line

MODELS = ("resnet50", "tf_efficientnetv2_b0", "deit_small_patch16_224")
VARIANTS = {"onnx": ["runtime"], "jaxvision": ["compiled+keep"], "timm": ["eager+keep", "compile+keep"]}
COLUMNS = ("onnx runtime", "jaxvision compiled+keep", "timm eager+keep", "timm compile+keep")
HEAD = ("ONNX Runtime", "`jaxvision.compile`", "timm eager", "timm compiled", "ONNX Runtime over timm's best")


def cells(row: Row) -> list[str]:
    """Milliseconds of each variant, and ONNX Runtime's speed over that of timm's faster one."""
    times = {
        key: 1e3 * statistics.median(row.variants[key]["seconds_per_call"])
        for key in COLUMNS
        if row.variants[key].get("seconds_per_call") and "error" not in row.variants[key]
    }
    shown = [f"{times[key]:.1f}" if key in times else row.variants[key].get("error", "failed") for key in COLUMNS]
    timm = [times[key] for key in COLUMNS[2:] if key in times]
    ratio = f"{min(timm) / times[COLUMNS[0]]:.2f}" if timm and COLUMNS[0] in times else "-"
    return [row.model, str(row.batch), *shown, ratio]


def run(args: argparse.Namespace) -> int:
    """Measures, prints and writes."""
    from jaxvision.files import replace_text
    from jaxvision.inference.onnx import require_packages

    require_packages()
    lines = [f"| model | batch | {' ms | '.join(HEAD[:4])} ms | {HEAD[4]} |", "|---" * 7 + "|"]
    print("\n".join(lines), flush=True)
    rows = []
    for model in args.models:
        for batch in args.batches:
            for row in measure([Job(model, "infer", batch, VARIANTS)], args):
                rows.append(row)
                lines.append("| " + " | ".join(cells(row)) + " |")
                print(lines[-1], flush=True)
    if args.out:
        versions = sorted({row.variants[key].get("version", "") for row in rows for key in COLUMNS} - {""})
        head = (
            f"# Exported models, {date.today()}\n\n{args.image_size} px, float32, {args.rounds} interleaved rounds, "
            f"medians; {os.cpu_count()} cores of {processor()}, load {os.getloadavg()[0]:.1f} at the end, python "
            f"{platform.python_version()}, {'; '.join(versions)}. Command: `python {' '.join(sys.argv)}`.\n\n"
        )
        replace_text(args.out, head + "\n".join(lines) + "\n")
        replace_text(args.out.with_suffix(".json"), json.dumps([dataclasses.asdict(r) for r in rows], indent=1) + "\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="timm's names")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32], help="images of a call (1 and 32)")
    parser.add_argument("--rounds", type=int, default=9, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a variant in a round (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the table, and FILE.json")
    command_line.add_image_size(parser, 224, "of a side (%(default)s)")
    parser.set_defaults(dtype="float32", builds=1, timeout=1800, kernels=False)
    return command_line.run(run, parser.parse_args(argv))


if __name__ == "__main__":
    command_line.start(main)
