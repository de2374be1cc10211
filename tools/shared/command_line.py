"""What the command lines of the tools share: their arguments, and how they end. Imports nothing heavy for --help."""

from __future__ import annotations

import argparse
import functools
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

MODEL_HELP = 'timm\'s name; a weight tag selects its settings: "convnext_tiny.fb_in1k"'


_COMMANDS = ("  python ", "  make ", "  pip ", "  jaxvision ")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the tool's own docstring, fitted to a terminal."""
    doc = as_called(doc or "")
    if not sys.stdout.isatty():
        return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    width = min(shutil.get_terminal_size().columns, 120)
    return argparse.ArgumentParser(
        description=filled(doc, width),
        formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, width=width),
    )


def as_called(doc: str) -> str:
    """A docstring with its commands as the user types them: ``jaxvision predict``, where the tool was called so."""
    if not sys.argv[0].startswith("jaxvision "):
        return doc
    from jaxvision.commands import COMMANDS

    for name, (module, _) in COMMANDS.items():
        doc = doc.replace(f"python {module.replace('.', '/')}.py", f"jaxvision {name}")
    return doc


def filled(doc: str, width: int) -> str:
    """A docstring in lines of ``width`` characters.

    Of indented lines, which are commands and lists, a comment moves above its command, a command is continued after a
    backslash, and an item of a list below its own text.
    """
    wrap = functools.partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)
    lines: list[str] = []
    paragraph: list[str] = []
    for line in [*re.sub(r" \\\n +", " ", doc).splitlines(), ""]:
        if line and not line.startswith(" "):
            paragraph.append(line)
            continue
        lines += wrap(" ".join(paragraph), width)
        paragraph = []
        if len(line) <= width:
            lines.append(line)
        elif line.startswith(_COMMANDS):
            command, _, comment = line.partition("  # ")
            lines += wrap(comment.strip(), width, initial_indent="  # ", subsequent_indent="  # ")
            parts = wrap(command.rstrip(), width - 2, subsequent_indent="      ")
            lines += [*(f"{part} \\" for part in parts[:-1]), parts[-1]]
        else:
            item = re.match(r" +\S+ {2,}", line)
            lines += wrap(line, width, subsequent_indent=" " * (item.end() if item else 4))
    return "\n".join(lines).rstrip("\n")


def add_model_name(parser: argparse.ArgumentParser) -> None:
    """The model as a word, MODEL, or as --model; see :func:`parse`."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--model", dest="model_option", metavar="MODEL", help="the same, as an option")


WEIGHTS_HELP = (
    'a run\'s workdir, a .safetensors or .pth file, or a name: "convnext_tiny.fb_in1k", "hf-hub:OWNER/NAME", '
    '"local-dir:PATH"; without it the published weights of MODEL'
)


def add_weights_arguments(parser: argparse.ArgumentParser, *, fuse: bool | None = None) -> None:
    """--weights and how to evaluate them.

    Args:
      parser: gets them.
      fuse: whether to fold batch normalisation; None: --fuse says so.
    """
    parser.add_argument("--weights", "--checkpoint", metavar="WEIGHTS", help=WEIGHTS_HELP)
    parser.add_argument("--raw", action="store_true", help="of a training run: the raw weights, not their EMA")
    parser.add_argument("--test-size", action="store_true", help="at timm's larger test setting of these weights")
    add_image_size(parser, None, "of a side, instead of the weights' own")
    parser.add_argument("--crop-pct", type=float, help="share of the short side kept, instead of the weights' own")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the computation")
    if fuse is None:
        parser.add_argument("--fuse", action="store_true", help="fold batch normalisation into the convolutions")
    else:
        parser.set_defaults(fuse=fuse)


def add_data_arguments(parser: argparse.ArgumentParser, split: str, *, run: bool) -> None:
    """--data-name, --data-dir, --class-map and --split.

    Args:
      parser: gets them.
      split: the default of --split.
      run: whether the tool's --weights may be a run, whose data is then the default.
    """
    own, evaluated = (", or that of the run", ", or what the run evaluated on") if run else ("", "")
    parser.add_argument(
        "--data-name", "--name", metavar="NAME",
        help=f"a data set prepared by tfds, or digits, folder, npz, synthetic (imagenet2012{own})",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", "--dir", "--data", metavar="DIR", type=Path,
        help=f"where it is (~/tensorflow_datasets{own})",
    )  # fmt: skip
    parser.add_argument(
        "--class-map", "--classes", metavar="FILE",
        help='order of the classes: a file with one name per line, or "imagenet"; see config.data.class_map',
    )  # fmt: skip
    parser.add_argument("--split", help=f'as in a config, such as train or "train[:99%%]" ({split}{evaluated})')
    parser.set_defaults(default_split=split)


def parse(
    parser: argparse.ArgumentParser, argv: list[str] | None, *, model_required: bool = True
) -> argparse.Namespace:
    """The parsed arguments; ``model`` is the model however it was named.

    Args:
      parser: with :func:`add_model_name`, or without.
      argv: the words of the command line; None: those of the process.
      model_required: whether a model has to be named; otherwise that is required without --weights only.
    """
    args = parser.parse_args(argv)
    if hasattr(args, "model_option"):
        if args.model is not None and args.model_option is not None:
            hint = f"; {args.model} is a folder: of data it is --data-dir {args.model}"
            parser.error(f"name one model: MODEL or --model MODEL{hint if Path(args.model).is_dir() else ''}")
        args.model = args.model or args.model_option
        if args.model is None and (model_required or args.weights is None):
            parser.error(
                "name one model: MODEL or --model MODEL" + ("" if model_required else "; or weights: --weights")
            )
    return args


def is_run(text: str | None) -> bool:
    """Whether a word is the workdir of a training run."""
    return text is not None and (Path(text).expanduser() / "checkpoints").is_dir()


def add_batch_size(parser: argparse.ArgumentParser, default: int | None, meaning: str = "(%(default)s)") -> None:
    """--batch-size, under timm's names for it, too."""
    parser.add_argument("-b", "--batch-size", "--batch", metavar="N", type=int, default=default, help=meaning)


def add_image_size(parser: argparse.ArgumentParser, default: int | None, meaning: str) -> None:
    """--image-size, under timm's names for it, too."""
    parser.add_argument(
        "--image-size", "--img-size", "--size", metavar="PIXELS", type=int, default=default, help=meaning
    )


def start(main: Callable[[], int]) -> NoReturn:
    """Ends the process with a tool's exit status; quietly, where its output goes into a pipe that nobody reads."""
    if sys.stdout is None or sys.stderr is None:  # as by >&-; importing the package takes a second
        from jaxvision import terminal

        terminal.open_missing_streams()
    try:
        try:
            status = main()
        except SystemExit as ended:  # argparse's, after --help
            status = ended.code
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130  # 128 + SIGINT
    except BrokenPipeError:
        from jaxvision import terminal

        status = terminal.BROKEN_PIPE
        terminal.discard(sys.stdout)  # Python writes what is left when it ends, and would fail again
    sys.exit(status)


def say(text: str, *, error_stream: bool = False) -> None:
    """Prints text fitted to the terminal."""
    from jaxvision import terminal

    stream = sys.stderr if error_stream else sys.stdout
    print(terminal.fitted(text, terminal.columns(stream)), file=stream, flush=True)


def track(text: str, results: Iterable[Any]) -> Iterable[Any]:
    """The results, with a bar while they come, on a terminal."""
    from rich.progress import track as bar

    return bar(results, text, disable=not sys.stderr.isatty(), transient=True)


def run(action: Callable[[Any], int], arguments: Any) -> int:
    """Exit status of a tool's work: its own, or that of an error of the user's or the disk's, told in one message."""
    try:
        return action(arguments)
    except BrokenPipeError:
        raise
    except OSError as error:
        from jaxvision import terminal

        terminal.print_error(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error)
        return 2
    except ValueError as error:
        from jaxvision import terminal
        from jaxvision.errors import UserError

        if not isinstance(error, UserError):
            raise
        terminal.print_error(error)
        return error.status


def fail(message: str) -> NoReturn:
    """Raises a ``UserError``."""
    from jaxvision.errors import UserError

    raise UserError(message)
