"""Attacks the program with damaged files and signals: nothing may be lost, silent, unclear or hang. Prints a table.

  python tools/chaos/main.py                           # files 200 times each, runs 3 times each: about half an hour
  python tools/chaos/main.py --files 20 --runs 0       # a minute
  python tools/chaos/main.py --only image --files 5000 --out FILE.md

Each attempt depends on its own seed, which a failure names: `--seed S --first I --files 1` repeats it.
"""

from __future__ import annotations

import collections
import datetime
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.shared import command_line

if TYPE_CHECKING:
    from tools.chaos.attack import Attack


def attempts(attack: Attack, count: int, seed: int, first: int) -> tuple[str, list[str]]:
    """Makes attempts; returns the row of the table, and a line for each failure."""
    from tools.chaos.attack import judge

    words: collections.Counter[str] = collections.Counter()
    failures, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "prepared"
        source.mkdir()
        prepared = attack.prepare(source)
        for index in range(first, first + count):
            folder = Path(temporary) / str(index)
            folder.mkdir()
            outcome = judge(attack, prepared, f"{seed}/{attack.name}/{index}", folder)
            words[outcome.word] += 1
            slowest = max(slowest, outcome.duration)
            if not outcome.held:
                failures.append(f"{attack.name}, --seed {seed} --first {index}: {outcome.word}: {outcome.detail}")
    held = count - len(failures)
    how = ", ".join(f"{number} {word}" for word, number in words.most_common())
    return f"| {attack.name} | {attack.what} | {count} | {held} | {how} | {slowest:.1f} |", failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the status is 1 where anything failed."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--files", type=int, default=200, help="attempts of each attack on files")
    parser.add_argument("--runs", type=int, default=3, help="attempts of each attack on runs; each takes minutes")
    parser.add_argument("--seed", type=int, default=0, help="other seeds make other attempts")
    parser.add_argument("--first", type=int, default=0, help="number of the first attempt")
    parser.add_argument("--only", default="", help="only attacks whose name contains this")
    parser.add_argument("--out", type=Path, help="write the table to this file, too")
    args = parser.parse_args(arguments)

    import jaxvision
    from tools.chaos import files, kills, state

    rows, failures = [], []
    for attacks, count in ((state.ATTACKS + files.ATTACKS, args.files), (kills.ATTACKS, args.runs)):
        for attack in attacks:
            if count and args.only in attack.name:
                row, found = attempts(attack, count, args.seed, args.first)
                rows.append(row)
                failures += found
                print(row, *found, sep="\n", flush=True)
    lines = [
        f"# An attack on jaxvision {jaxvision.__version__}, {datetime.date.today()}, seed {args.seed}",
        "",
        "| attack | what is done and has to hold | tried | held | how | slowest, s |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        *(f"- {failure}" for failure in failures),
    ]
    if args.out:
        args.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    command_line.start(main)
