"""The data set that a tool's arguments name."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys

from jaxvision.config import from_saved, resolve
from jaxvision.data import sources
from jaxvision.data.config import DataConfig
from jaxvision.data.sources import Source
from jaxvision.errors import UserError
from jaxvision.run.console import notes
from jaxvision.run.weights import SavedRun
from jaxvision.train import inputs

WITHOUT_FOLDER = ("digits", "synthetic")


def open_source(args: argparse.Namespace, run: SavedRun | None = None) -> Source:
    """The split ``args.split`` of the data set that --data-name and --data-dir name, as in a training run.

    Args:
      args: of :func:`tools.shared.command_line.add_data_arguments`; what they leave open is filled in.
      run: what it was evaluated on is opened where the arguments leave everything open, or only say where the data is
        now; where they name another split or order of classes, it is one of the same data set. Another data set's name
        leaves the run out.

    Raises:
      UserError: it is missing or damaged, or has no such split.
    """
    config = None if run is None else resolve(from_saved(run.config))
    if config is not None and args.data_name is None:
        args.data_name = config.data.name
        if args.data_dir and args.data_name in WITHOUT_FOLDER:
            raise UserError(
                f"the run's data is {args.data_name}, which is in no folder: what is {args.data_dir}? Add --data-name, "
                "such as --data-name folder"
            )
        if args.class_map is None and args.split is None:
            place = str(args.data_dir or config.data.dir)
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, dir=place))
            source = inputs.open_eval(config)
            if config.data.fold and run.examples is not None and len(source) != run.examples[1]:
                raise UserError(
                    f"the run was evaluated on a part of its data, {run.examples[1]} examples; of {place} it has "
                    f"{len(source)}: these are other data. --split {config.data.train_split} takes all of them; where "
                    "the run was trained on some, that is no test"
                )
            args.split = f"fold {config.data.fold}" if config.data.fold else config.data.eval_split
            return source
        args.data_dir, args.split = args.data_dir or config.data.dir or None, args.split or config.data.eval_split
    elif args.data_name is None and args.data_dir and not (args.data_dir / DataConfig.name).is_dir():
        found = [split for split in ("train", "val", "validation") if (args.data_dir / split).is_dir()]
        if found:
            raise UserError(
                f"{args.data_dir} holds {', '.join(found)}: if these hold class folders, add --data-name folder"
            )
    given = {"name": args.data_name, "dir": args.data_dir and str(args.data_dir), "class_map": args.class_map}
    data = DataConfig(**{field: value for field, value in given.items() if value is not None})
    args.data_name, args.split = data.name, args.split or args.default_split
    with notes(functools.partial(print, file=sys.stderr)):
        return sources.open_source(data, args.split, image_size=224, seed=0)
