"""Compares ten whole training steps of each recipe with timm's parts: ``make parity-steps``.

  python tools/parity/steps.py                      # every recipe with its own model, small images; minutes each
  python tools/parity/steps.py resnet50_a2 --small  # some recipes, with small relatives of their models
  python tools/parity/steps.py --out parity_steps.md

Both sides start from the same weights, which look trained, and see the same batches, whose images and targets are mixed
with a fixed lambda; what is random (crops, policies, dropout, stochastic depth, DropBlock) is off. Compared after ten
steps, in the warm-up and in the decay: every loss, the change of every parameter, the BN statistics, the EMA. A NaN or
an infinity on either side is a failure.

"float64" is the proof: both sides in double precision. "float32" is ours against timm's, and "timm's own" is timm's
float32 against its float64: under batch statistics, and with optimizers that divide by the gradient's size, rounding
grows by itself.
"""

from __future__ import annotations

import fnmatch
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.shared import command_line

KINDS = ("float64", "float32", "timm's own")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: loss / update / BN statistics / EMA for each precision."""
    kinds = [kind for kind in KINDS if any(kind in row for row in rows)]
    lines = ["| recipe | model | optimizer | " + " | ".join([*kinds, "equal"]) + " |", "|---" * (len(kinds) + 4) + "|"]
    for row in rows:
        figures = [" / ".join(f"{v:.0e}" for v in row[kind].values()) if kind in row else "" for kind in kinds]
        verdict = "yes" if row["equal"] else f"NO {row.get('error', '')}".rstrip()
        words = [row["recipe"], row.get("model", ""), row.get("optimizer", ""), *figures, verdict]
        lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def title(command: Sequence[str]) -> str:
    """The head of a written table."""
    import jax

    from tools.parity.compare_steps import BATCH, LIMIT, RECIPES, STEPS
    from tools.parity.reference import timm, torch

    versions = f"python {platform.python_version()}, jax {jax.__version__}, torch {torch.__version__}"
    return (
        f"# Ten training steps against timm, {date.today()}\n\n{versions}, timm {timm.__version__}, "
        f"{jax.default_backend()}, batch {BATCH}, {RECIPES[0][2]} px, weights that look trained. Largest relative "
        f"differences of loss / change of each parameter / BN statistics / EMA after {STEPS} steps; equal: all below "
        f"{LIMIT:g} in float64, with every value finite on both sides. Command: "
        f"`python tools/parity/steps.py {' '.join(command)}`\n\n"
        "float32 cannot agree to 1e-4 in networks with batch statistics, whoever computes it: \"timm's own\" is timm's "
        "float32 against timm's float64.\n\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Compares the recipes; returns 1 where one differs."""
    parser = command_line.parser(__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], help="recipes, with shell wildcards; default: all")
    parser.add_argument("--small", action="store_true", help="small relatives of the models, and float64 only")
    parser.add_argument("--out", type=Path, help="write the table here, and the rows as .json, after every recipe")
    args = parser.parse_args(argv)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    from jaxvision.files import replace_text
    from tools.parity.compare_steps import RECIPES, compare
    from tools.parity.equality import largest

    chosen = [r for r in RECIPES if any(fnmatch.fnmatch(r[0], pattern) for pattern in args.patterns)]
    if not chosen:
        parser.error(f"no recipe matches {' '.join(args.patterns)}; there are: {', '.join(r[0] for r in RECIPES)}")
    rows: list[dict[str, Any]] = []
    for name, small, size in chosen:
        try:
            row = compare(name, small if args.small else None, size, narrow=not args.small)
            print(
                f"{name} ({row['model']}): float64 {largest(row['float64'].values()):.1e}, {row['seconds']} s",
                flush=True,
            )
        except Exception as error:  # one recipe must not end the others' check
            row = {"recipe": name, "error": f"{type(error).__name__}: {error}"[:300], "equal": False}
            print(f"{name}: {row['error']}", flush=True)
        rows.append(row)
        if args.out:
            replace_text(args.out, title(sys.argv[1:] if argv is None else argv) + table(rows) + "\n")
            replace_text(args.out.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
        jax.clear_caches()
    print(table(rows))
    return 0 if all(row["equal"] for row in rows) else 1


if __name__ == "__main__":
    command_line.start(main)
