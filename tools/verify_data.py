"""Checks every record's checksum and that every image decodes; names what is bad. Exit status 1 if anything is.

python tools/verify_data.py --name imagenet2012 --dir ~/tensorflow_datasets --split train
python tools/verify_data.py --name folder --dir photos --split val
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from rich.progress import track

from jaxvision.data import sources
from jaxvision.data.decode import decode
from jaxvision.errors import UserError
from tools.shared.data_args import add_data_arguments, open_source


def check(source: sources.Source, index: int) -> str | None:
    """What is wrong with an example, or None."""
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


def main() -> int:
    """Verifies a split; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_arguments(parser, split="train")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    try:
        source = open_source(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(args.threads) as pool:
        results = pool.map(lambda i: check(source, i), range(len(source)))
        for problem in track(results, "verifying", total=len(source), disable=not sys.stderr.isatty()):
            if problem:
                bad += 1
                print(problem, flush=True)
    print(f"{bad} of {len(source)} examples are damaged" if bad else f"{len(source)} examples, all good")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
