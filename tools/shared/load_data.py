"""The data set that a tool's arguments name."""

from __future__ import annotations

import argparse

from jaxvision.data import sources
from jaxvision.data.config import DataConfig
from jaxvision.data.sources import Source


def open_source(args: argparse.Namespace) -> Source:
    """The split ``args.split`` of the data set that --data-name and --data-dir name, as in a training run.

    Raises:
      UserError: it is missing or damaged, or has no such split.
    """
    config = DataConfig(name=args.data_name, dir=str(args.data_dir), class_map=args.class_map)
    return sources.open_source(config, args.split, image_size=224, seed=0)
