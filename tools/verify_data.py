"""Checks every record's checksum and that every image decodes; prints damaged examples. Exit status 1 if there are any.

python tools/verify_data.py --data-name imagenet2012 --data-dir ~/tensorflow_datasets --split train
python tools/verify_data.py --data-name folder --data-dir photos --split val
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.shared import command_line


def run(args: argparse.Namespace) -> int:
    """Verifies a split; returns 1 where an example is damaged."""
    from rich.progress import track

    from jaxvision.data.verify import problems
    from tools.shared.load_data import open_source

    source, bad = open_source(args), 0
    results = problems(source, range(len(source)), args.threads)
    for problem in track(results, "verifying", total=len(source), disable=not sys.stderr.isatty()):
        if problem:
            bad += 1
            print(problem, flush=True)
    print(f"{bad} of {len(source)} examples are damaged" if bad else f"{len(source)} examples, all good")
    return 1 if bad else 0


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    command_line.add_data_arguments(parser, split="train", run=False)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: one per core")
    args = command_line.parse(parser, argv)
    if args.threads < 1:
        parser.error(f"--threads must be at least 1, got {args.threads}")
    return command_line.run(run, args)


if __name__ == "__main__":
    command_line.start(main)
