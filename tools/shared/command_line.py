"""What the command lines of the tools share: their arguments, and how they end. Imports nothing heavy for --help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

MODEL_HELP = 'timm\'s name; a weight tag selects its settings: "convnext_tiny.fb_in1k"'


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the tool's own docstring, as it is written."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_model_name(parser: argparse.ArgumentParser) -> None:
    """The model as a word, MODEL, or as --model; see :func:`parse`."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--model", dest="model_option", metavar="MODEL", help="the same, as an option")


def add_weights_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """--weights and how to evaluate them."""
    parser.add_argument(
        "--weights", type=Path, required=required, help=".safetensors or .pth file, or the workdir of a training run"
    )
    parser.add_argument("--raw", action="store_true", help="of a training run: the raw weights, not their EMA")
    parser.add_argument("--test-size", action="store_true", help="at timm's larger test setting of these weights")
    parser.add_argument("--image-size", type=int, help="pixels of a side, instead of the weights' own")
    parser.add_argument("--crop-pct", type=float, help="share of the short side kept, instead of the weights' own")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the computation")
    parser.add_argument("--fuse", action="store_true", help="fold batch normalisation into the convolutions")


def add_data_arguments(parser: argparse.ArgumentParser, split: str) -> None:
    """--data-name, --data-dir and --split, whose default is given."""
    parser.add_argument(
        "--data-name", "--name", metavar="NAME", default="imagenet2012",
        help="a data set prepared by tfds, or digits, folder, npz, synthetic (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", "--dir", metavar="DIR", type=Path, default=Path("~/tensorflow_datasets"),
        help="where it is (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--class-map", metavar="FILE", default="",
        help='order of the classes: a file with one name per line, or "imagenet"; see config.data.class_map',
    )  # fmt: skip
    parser.add_argument("--split", default=split, help='as in a config, such as train or "train[:99%%]" (%(default)s)')


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The parsed arguments; ``model`` is the model however it was named, exactly once."""
    args = parser.parse_args(argv)
    if hasattr(args, "model_option"):
        if (args.model is None) == (args.model_option is None):
            parser.error("name one model: MODEL or --model MODEL")
        args.model = args.model or args.model_option
    return args


def run(action: Callable[[Any], int], arguments: Any) -> int:
    """Exit status of a tool's work: its own, or that of a ``UserError``, which is printed as one message."""
    try:
        return action(arguments)
    except ValueError as error:
        from jaxvision.errors import UserError

        if not isinstance(error, UserError):
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.status


def fail(message: str) -> NoReturn:
    """Raises a ``UserError``."""
    from jaxvision.errors import UserError

    raise UserError(message)
