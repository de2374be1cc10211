"""Checks every record's checksum and that every image decodes; prints damaged examples. Exit status 1 if there are any.

python tools/verify_data.py --data-name imagenet2012 --data-dir ~/tensorflow_datasets --split train
python tools/verify_data.py --data-name folder --data-dir photos --split val
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.shared import command_line

if TYPE_CHECKING:
    from jaxvision.data.sources import Source


def check(source: Source, index: int) -> str | None:
    """What is wrong with an example, or None."""
    import numpy as np

    from jaxvision.data.decode import decode

    try:
        if problem := source.verify(index):
            return f"{source.where(index)}: {problem}"
        raw, label = source.read(index)
        if not isinstance(raw, np.ndarray):
            decode(raw)
        if not 0 <= label < source.num_classes:
            return f"{source.where(index)}: label {label} is outside 0..{source.num_classes - 1}"
    except Exception as error:  # whatever a damaged record raises is the finding
        return f"{source.where(index)}: {error}"
    return None


def run(args: argparse.Namespace) -> int:
    """Verifies a split; returns 1 where an example is damaged."""
    from rich.progress import track

    from tools.shared.load_data import open_source

    source, bad = open_source(args), 0
    with concurrent.futures.ThreadPoolExecutor(args.threads) as pool:
        results = pool.map(lambda i: check(source, i), range(len(source)))
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
