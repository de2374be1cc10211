"""What the tools share: naming a data set on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxvision.data import digits, sources


def add_data_arguments(parser: argparse.ArgumentParser, split: str) -> None:
    """--name, --dir and --split, whose default is given."""
    parser.add_argument("--name", default="imagenet2012", help="a prepared tfds data set, or digits, folder, npz")
    parser.add_argument("--dir", type=Path, default=Path("~/tensorflow_datasets"), help="where it is")
    parser.add_argument("--split", default=split, help="for a folder: the name of a folder in it")


def open_source(args: argparse.Namespace) -> sources.Source:
    """The data set that the arguments name."""
    if args.name == "digits":
        return digits.source(args.split)
    openers = {"folder": sources.FolderSource, "npz": sources.npz_source}
    folder = args.dir.expanduser()
    if args.name in openers:
        return openers[args.name](folder, args.split)
    return sources.tfds_source(args.name, folder, args.split)
