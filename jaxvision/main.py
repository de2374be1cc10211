"""Command line: flags and config only; the work is in ``loop.run`` and ``evaluate.run``."""

from __future__ import annotations

import json
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxvision import config as config_lib
from jaxvision import options, resources, terminal
from jaxvision.config import Config
from jaxvision.errors import UserError, did_you_mean, near_words
from jaxvision.recipes import SQUARE_ROOT, rate_factor

_LEAVING_S = 20.0  # seconds that several processes may take to leave each other when all is done and saved
_WIDTH = 100  # of lines that no terminal shows
FLAGS = {
    "--config NAME[:VARIANT]": "a recipe, for example resnet_rs50 or resnet_rs50:digits; or a config file, for "
    "example configs/resnet_rs50.py; or the folder of a run, whose own config is taken",
    "--workdir DIR": "where checkpoints, metrics and plots go; default runs/<config name>, or the folder of that run",
    "--config.FIELD=VALUE": "overrides a field: --config.epochs=30",
    "--help": "after --config NAME: every field with that recipe's value, the allowed values and the meaning",
}
ENDS = (
    "Starting the same command again resumes. Exit status: 0 done, 2 a mistake in the command or the data, 3 out of "
    "memory, 4 training diverged, 129, 130 or 143 interrupted and saved."
)


def usage(width: int) -> str:
    """What the command takes, in lines of ``width`` characters."""
    # jaxvision.commands puts its command there.
    program = sys.argv[0] if sys.argv[0].startswith("jaxvision ") else "python -m jaxvision.main"
    call = f"usage: {program} --config NAME[:VARIANT] [--workdir DIR] [--config.FIELD=VALUE ...] [--help]"
    flags = [terminal.fitted(f"  {flag:<25}{meaning}", width, hang=25) for flag, meaning in FLAGS.items()]
    return "\n".join([terminal.fitted(call, width, hang=7), "", *flags, "", terminal.fitted(ENDS, width, hang=0)])


def parse(argv: Sequence[str]) -> tuple[Config, Path]:
    """The resolved config and the workdir of a command line (without the program name).

    Raises:
      UserError: one message for whatever is wrong.
    """
    tokens = split_flags(argv)
    path = tokens.get("config")
    width = terminal.columns(sys.stdout) or _WIDTH
    if "help" in tokens and path is None:
        print(usage(width), flush=True)
        raise SystemExit(0)
    if path is None:
        raise UserError(f"--config is missing\n{usage(terminal.columns(sys.stderr) or _WIDTH)}")
    path = _config_file(path)
    file, _, variant = path.partition(":")
    if not Path(file).is_file():
        raise UserError(f"no config file {file}.{_similar_config(file)}")
    overrides = {name.removeprefix("config."): text for name, text in tokens.items() if name.startswith("config.")}
    if "help" in tokens:
        given = [f"--config.{name}={text}" for name, text in overrides.items()]
        fields = options.help_text(Config, config_lib.flatten(load_config(path, given)), width)
        print(terminal.fitted(f"{usage(width)}\n\n{fields}", width), flush=True)
        raise SystemExit(0)
    config = _overridden(path, overrides)
    if file.endswith(".json"):
        default = Path(file).parent
    else:
        model = overrides.get("model.name")
        stem = "_".join(part for part in (Path(file).stem, variant, model) if part)
        default = Path("runs") / stem.replace("=", "_").replace("/", "_")
    return config, Path(tokens.get("workdir") or default).expanduser()


def _similar_config(file: str) -> str:
    """What may have been meant by a config file that does not exist; without similar ones the names of all."""
    known, stem = list(resources.recipes()), Path(file).stem
    near = [name for name in known if stem and name.startswith(stem)] or near_words(stem, known)
    if near:
        return f" Did you mean {' or '.join(near)}?"
    return f" The recipes are {', '.join(known)}."


def _config_file(path: str) -> str:
    """The config file of a run's folder, of a recipe's name, or as it was named; with the variant after a colon.

    ``configs/NAME.py`` names a recipe also where the current folder has no such file.
    """
    saved = Path(path) / "config.json"
    if saved.is_file():
        return str(saved)
    file, colon, variant = path.partition(":")
    recipe = resources.recipes().get(Path(file).stem)
    if recipe is None or Path(file).is_file() or file not in (recipe.stem, f"configs/{recipe.name}"):
        return path
    return f"{recipe}{colon}{variant}"


def _overridden(path: str, overrides: Mapping[str, str]) -> Config:
    """The resolved config of a file with the texts of some fields replaced.

    Raises:
      UserError: unknown fields, texts of a wrong type and values that make no sense, all at once.
    """
    problems = config_lib.unknown_fields(overrides)
    given = [f"--config.{name}={text}" for name, text in overrides.items() if name in config_lib.FIELDS]
    try:
        config = load_config(path, given)
    except UserError:
        config = load_config(path, [])  # where the file itself is at fault, this says so
        for flag in list(given):
            try:
                load_config(path, [flag])
            except UserError:
                given.remove(flag)
                name, _, text = flag.removeprefix("--config.").partition("=")
                expected = options.type_text(config_lib.FIELDS[name].type)
                problems.append(f"config.{name} = {text!r}: expected {expected}")
        config = load_config(path, given)
    try:
        resolved = config_lib.resolve(config)
    except UserError as error:
        problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    return resolved


def load_config(path: str, overrides: list[str]) -> ConfigDict:
    """The config of a file, "configs/deit_s.py:ti", with typed overrides, as ml_collections reads them.

    Args:
      path: a config file with its argument, or the ``config.json`` of a run.
      overrides: flags such as "--config.epochs=3".

    Raises:
      UserError: what is wrong with the file, its argument or an override, in one message.
    """
    values = flags.FlagValues()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # ml_collections loads the file the old way
            if path.endswith(".json"):
                arguments = ["jaxvision", *overrides]
                config_flags.DEFINE_config_dict("config", _saved_config(path), flag_values=values, sys_argv=arguments)
            else:
                arguments = ["jaxvision", f"--config={path}", *overrides]
                config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values, sys_argv=arguments)
            values(arguments)
        if not isinstance(values.config, ConfigDict):
            raise UserError(
                f"{path}: get_config must return base_config() with its changes, it returned {values.config}"
            )
        return values.config
    except UserError:
        raise
    except Exception as error:  # absl's flag errors, and the KeyError, TypeError, ... of ml_collections
        # A failing config file arrives as a message that ends with its traceback.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        message = lines[-1] if "Traceback" in str(error) else " ".join(lines)
        raise UserError(message.removeprefix("jaxvision.errors.UserError: ")) from error


def _saved_config(path: str) -> ConfigDict:
    """The config that a run wrote to its workdir."""
    try:
        return config_lib.from_saved(json.loads(Path(path).read_text()))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not the config.json of a run: {error}") from error


def batch_note(argv: Sequence[str], config: Config) -> str | None:
    """Says that a command line changes the batch of a config file and leaves its learning rate; None: it does not."""
    tokens = split_flags(argv)
    if "config.batch_size" not in tokens or "config.optimizer.learning_rate" in tokens or config.mode != "train":
        return None
    before = load_config(_config_file(tokens["config"]), []).batch_size
    if config.batch_size == before:
        return None
    rate, optimizer = config.optimizer.learning_rate, config.optimizer.name
    scaled = rate * rate_factor(optimizer, config.batch_size / before)
    how = "the square root of the batch" if optimizer in SQUARE_ROOT else "the batch"
    return (
        f"batch_size = {config.batch_size}, in the config file {before}: the learning rate stays {rate:g}; scaled with "
        f"{how} it is --config.optimizer.learning_rate={scaled:.2g}"
    )


def split_flags(argv: Sequence[str]) -> dict[str, str]:
    """Flag names with their texts, "help" without one; anything that is no flag of ours is an error."""
    tokens: dict[str, str] = {}
    arguments = list(argv)
    while arguments:
        argument = arguments.pop(0)
        if argument in ("-h", "--help", "--helpfull"):
            tokens["help"] = ""
            continue
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
    terminal.open_missing_streams()
    argv = sys.argv[1:] if argv is None else argv
    try:
        config, workdir = parse(argv)
        # Only now: importing JAX's users costs seconds that a typo should not.
        from jaxvision.ops import process
        from jaxvision.run.preemption import end_within
        from jaxvision.train import evaluate, loop

        process.prepare(deterministic=config.deterministic)
        with terminal.lasting_streams():
            if (note := batch_note(argv, config)) and config.distributed.process == 0:
                terminal.say(f"note: {note}")
            status = evaluate.run(config, workdir) if config.mode == "eval" else loop.run(config, workdir)
        end_within(_LEAVING_S, status)
        return status
    except UserError as error:
        terminal.print_error(error)
        return getattr(error, "status", 2)
    except KeyboardInterrupt:  # before the run saves at Ctrl-C, or by a second one
        terminal.print_error("interrupted; the same command resumes from the newest checkpoint, if there is one")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # by --help: a run has streams that last
        terminal.discard(sys.stdout)
        return terminal.BROKEN_PIPE


if __name__ == "__main__":
    sys.exit(main())
