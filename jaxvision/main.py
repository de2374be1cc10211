"""Command line: flags and config only; the work is in ``loop.run`` and ``evaluate.run``."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from jaxvision import config as config_lib
from jaxvision.errors import UserError, did_you_mean

USAGE = """\
usage: python -m jaxvision.main --config FILE[:VARIANT] [--workdir DIR] [--config.FIELD=VALUE ...]

  --config   a file of configs/, for example configs/resnet_rs50.py or configs/resnet_rs50.py:digits
  --workdir  where checkpoints, metrics and plots go; default runs/<config name>
  --config.FIELD=VALUE  overrides a field: --config.optimizer.learning_rate=0.1

Starting the same command again resumes. Exit status: 0 done, 2 a mistake in the
command or the data, 3 out of memory, 4 training diverged, 130 or 143 interrupted and saved."""


def parse(argv: Sequence[str]) -> tuple[config_lib.Config, Path]:
    """The validated config and the workdir of a command line (without the program name).

    Raises:
      UserError: one message for whatever is wrong.
    """
    tokens = _split(argv)
    path = tokens.get("config")
    if path is None:
        raise UserError(f"--config is missing\n{USAGE}")
    file, _, variant = path.partition(":")
    if not Path(file).is_file():
        raise UserError(f"no config file {file}.{did_you_mean(file, map(str, Path('configs').glob('*.py')))}")

    known = config_lib.flatten(load_config(path, []))
    overrides = {name.removeprefix("config."): text for name, text in tokens.items() if name.startswith("config.")}
    if problems := unknown_fields(overrides, known):
        raise UserError("\n".join(problems))
    config = load_config(path, [f"--config.{name}={text}" for name, text in overrides.items()])
    config_lib.validate(config)
    stem = Path(file).stem + (f"_{variant}" if variant else "")
    return config, Path(tokens.get("workdir") or f"runs/{stem.replace('=', '_').replace('/', '_')}").expanduser()


def unknown_fields(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """One message for each name that is no config field, with the nearest that is."""
    return [
        f"unknown field config.{name}." + did_you_mean(name, known).replace('mean "', 'mean "config.')
        for name in names
        if name not in known
    ]


def load_config(path: str, overrides: list[str]) -> config_lib.Config:
    """The config of a file, "configs/deit_s.py:ti", through ml_collections, with its typed overrides.

    Raises:
      UserError: what is wrong with the file, its argument or an override, in one message.
    """
    arguments = ["jaxvision", f"--config={path}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values, sys_argv=arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # ml_collections loads the file the old way
            values(arguments)
        return values.config
    except Exception as error:  # absl's flag errors, and the KeyError, TypeError, ... of ml_collections
        # A failing config file arrives as a message that ends with its traceback.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        message = lines[-1] if "Traceback" in str(error) else " ".join(lines)
        raise UserError(message.removeprefix("jaxvision.errors.UserError: ")) from error


def _split(argv: Sequence[str]) -> dict[str, str]:
    """Flag names with their texts; anything that is no flag of ours is an error."""
    tokens: dict[str, str] = {}
    arguments = list(argv)
    while arguments:
        argument = arguments.pop(0)
        if argument in ("-h", "--help", "--helpfull"):
            print(USAGE)
            raise SystemExit(0)
        name, equals, text = argument.lstrip("-").partition("=")
        if not argument.startswith("-"):
            hint = f" Did you mean --{argument}?" if name.split(".")[0] in ("config", "workdir") else ""
            raise UserError(f"leftover argument {argument!r}.{hint}")
        if name not in ("config", "workdir") and not name.startswith("config."):
            raise UserError(f"unknown flag --{name}.{did_you_mean(name, ('config', 'workdir'))}")
        if not equals:
            if not arguments or arguments[0].startswith("--"):
                raise UserError(f"--{name} needs a value: --{name}=VALUE")
            text = arguments.pop(0)
        if name in tokens:
            raise UserError(f"--{name} is given twice: {tokens[name]!r} and {text!r}")
        tokens[name] = text
    return tokens


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status."""
    try:
        config, workdir = parse(sys.argv[1:] if argv is None else argv)
        if config.deterministic:
            os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true"
        # Only now: importing JAX's users costs seconds that a typo should not.
        from jaxvision.ops import process
        from jaxvision.train import evaluate, loop

        process.prepare()
        return evaluate.run(config, workdir) if config.mode == "eval" else loop.run(config, workdir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "status", 2)


if __name__ == "__main__":
    sys.exit(main())
