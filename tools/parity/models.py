"""Compares every model with timm's, with the same random weights that look trained: ``make parity``.

  python tools/parity/models.py --jobs 2                      # every model, small inputs, about 30 s of a core each
  python tools/parity/models.py "convnext_*" resnet50 --native --out parity.md
  python tools/parity/models.py --again benchmarks/results/parity_core_cpu_2026-11-26.json --out parity.md

For each model: the largest relative difference (largest difference over largest magnitude) of the float32 logits, of
every map of ``features``, of ``embed``, of the gradients of a loss with respect to every parameter and the input, and
of the fused model's logits; and whether the export loads strictly into timm and comes back bit for bit. A NaN or an
infinity on either side is a failure. "rounding" and "timm's rounding" are the distances of both sides' float32 logits
from timm's float64 ones, where batch normalisation allows it with weights that magnify rounding; they decide nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.shared import command_line
from tools.shared.compile_flags import QUICK

COLUMNS = ("logits", "embed", "features", "gradients", "fused", "rounding", "timm's rounding")


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown."""
    head = ["model", "input", *COLUMNS, "export and back", "equal"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        if "error" in row:
            words = [row["name"], row["size"], row["error"], *[""] * (len(head) - 4), "NO"]
        else:
            figures = [f"{row[column]:.1e}" if column in row else "" for column in COLUMNS]
            export = "bit-exact" if row["round_trip"] else "DIFFERS"
            words = [row["name"], row["size"], *figures, export, "yes" if row["equal"] else "NO"]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def title(command: Sequence[str]) -> str:
    """The head of a written table."""
    import jax

    from tools.parity.compare_models import FORWARD, GRADIENT
    from tools.parity.reference import timm, torch

    versions = f"python {platform.python_version()}, jax {jax.__version__}, "
    versions += f"torch {torch.__version__}, timm {timm.__version__}"
    return (
        f"# Parity with timm, {date.today()}\n\nRandom weights that look trained, float32, {versions}, "
        f"{jax.default_backend()}. Largest relative differences; equal means below {FORWARD:g} forward and "
        f'{GRADIENT:g} in every gradient, with every value finite on both sides. "fused" is empty where there is no '
        'batch normalisation. "rounding" and "timm\'s rounding": float32 logits of each side against timm\'s float64, '
        "with ill-conditioned weights where there is batch normalisation. "
        f"Command: `python tools/parity/models.py {' '.join(command)}`\n\n"
    )


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("patterns", nargs="*", help="model names, with shell wildcards; default: all")
    parser.add_argument("--again", type=Path, metavar="FILE.json", help="the models of an earlier result's rows")
    parser.add_argument("--native", action="store_true", help="at each model's own input size, not a small one")
    parser.add_argument("--no-gradients", action="store_true", help="forward only")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="models at a time, each with its share of cores"
    )
    parser.add_argument("--out", type=Path, help="write the table here, and the rows as .json, after every model")
    args = parser.parse_args(argv)
    if args.again and args.patterns:
        parser.error("choose either model names or --again")
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: expected 1 or more")
    if args.again:
        try:
            args.patterns = [row["name"] for row in json.loads(args.again.read_text())]
        except (OSError, ValueError, TypeError, KeyError) as error:
            parser.error(f"--again {args.again}: expected the .json of an earlier result ({error})")
    args.patterns = args.patterns or ["*"]
    return args


def take_cores(shares: Any) -> None:
    """Keeps this worker process, and the thread pools it will start, on one of the shares of the cores."""
    os.sched_setaffinity(0, shares.get())


def row_of(name: str, native: bool, gradients: bool) -> dict[str, Any]:
    """One model's row, with "error" where the comparison itself failed: one model must not end the others' check."""
    import jax

    from tools.parity import compare_models

    size = compare_models.native_size(name) if native else compare_models.small_size(name)
    try:
        return compare_models.compare(name, size, gradients=gradients)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"[:300]
        return {"name": name, "size": f"{size[0]}x{size[1]}", "error": text, "equal": False}
    finally:
        jax.clear_caches()


def compared(names: Sequence[str], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows as they come: in this process, or in ``args.jobs`` processes with a share of the cores each."""
    native, gradients = args.native, not args.no_gradients
    if args.jobs == 1:
        yield from (row_of(name, native, gradients) for name in names)
        return
    context = multiprocessing.get_context("spawn")
    shares, cores = context.Queue(), sorted(os.sched_getaffinity(0))
    for i in range(args.jobs):
        shares.put(cores[i :: args.jobs] or cores)
    with ProcessPoolExecutor(args.jobs, context, take_cores, (shares,)) as pool:
        futures = [pool.submit(row_of, name, native, gradients) for name in names]
        yield from (future.result() for future in as_completed(futures))


def compare_all(names: Sequence[str], args: argparse.Namespace, command: Sequence[str]) -> list[dict[str, Any]]:
    """Every model's row, in the order of ``names``; prints each, and writes ``args.out`` anew, as it comes."""
    from jaxvision.files import replace_text

    rows: list[dict[str, Any]] = []
    for row in compared(names, args):
        rows = sorted([*rows, row], key=lambda row: names.index(row["name"]))
        figures = " ".join(f"{column} {row[column]:.1e}" for column in COLUMNS if column in row)
        verdict = "equal" if row["equal"] else f"NOT EQUAL {row.get('error', '')}"
        place = f"[{len(rows)}/{len(names)}] {row['name']} {row['size']}"
        print(f"{place}: {figures} {verdict} ({row.get('seconds')} s)", flush=True)
        if args.out:
            replace_text(args.out, title(command) + table(rows) + "\n")
            replace_text(args.out.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Compares the models; returns 1 where one differs."""
    args = parse_args(argv)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", QUICK)
    from tools.parity import compare_models

    names = compare_models.comparable(args.patterns)
    if not names:
        print(f"error: no model matches {' '.join(args.patterns)}; jaxvision.list_models() names them", file=sys.stderr)
        return 2
    rows = compare_all(names, args, sys.argv[1:] if argv is None else argv)
    different = [row["name"] for row in rows if not row["equal"]]
    print(table(rows))
    print(f"{len(rows) - len(different)} of {len(rows)} equal", f"; not: {', '.join(different)}" if different else "")
    return 1 if different else 0


if __name__ == "__main__":
    command_line.start(main)
