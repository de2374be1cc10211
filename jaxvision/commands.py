"""The ``jaxvision`` command: ``jaxvision COMMAND [ARGUMENTS]``, from any folder.

Each command is a program of its own, which also runs without being installed: ``python -m jaxvision.main`` and the
files of ``tools/``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence

from jaxvision import resources
from jaxvision.errors import did_you_mean

# name: module, meaning
COMMANDS = {
    "train": ("jaxvision.main", "train a recipe, or resume a run"),
    "eval": ("jaxvision.main", "evaluate a run's newest checkpoint"),
    "predict": ("tools.predict", "name what is in photos"),
    "validate": ("tools.validate", "accuracy of weights on a data set"),
    "finetune": ("tools.finetune", "train published weights further on a folder of images"),
    "probe": ("tools.probe", "nearest neighbours and a linear classifier on a network's embeddings"),
    "models": ("tools.list_models", "names, sizes and published accuracies of the models"),
    "import": ("tools.import_torch", "weights of timm, torchvision and the papers to .safetensors, and back"),
    "export": ("tools.export", "a model to a file that runs without this library"),
    "publish": ("tools.publish", "a run to a folder that jaxvision and timm open, and to the hub"),
    "sweep": ("tools.sweep", "search config fields for the best accuracy"),
    "show-augment": ("tools.show_augment", "a picture of what a recipe's augmentation does"),
    "prepare-imagenet": ("tools.prepare_imagenet", "ImageNet's archives to the data set that training reads"),
    "verify-data": ("tools.verify_data", "find damaged records and images before training does"),
    "bench": ("tools.bench.main", "speed, memory and accuracy beside timm"),
}


def usage() -> str:
    """The commands with their meanings."""
    from jaxvision import terminal

    width = terminal.columns(sys.stdout) or 100
    column = max(map(len, COMMANDS)) + 4
    lines = [f"  {name:<{column - 2}}{meaning}" for name, (_, meaning) in COMMANDS.items()]
    lines = [terminal.fitted(line, width, hang=column) for line in lines]
    ends = (
        "`jaxvision COMMAND --help` explains the arguments of a command. A recipe is named by --config: "
        f"`jaxvision train --config resnet_rs50:digits`. The recipes are {', '.join(resources.recipes())}."
    )
    return "\n".join(["usage: jaxvision COMMAND [ARGUMENTS]", "", *lines, "", terminal.fitted(ends, width, hang=0)])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status."""
    from jaxvision import terminal

    terminal.open_missing_streams()
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name in ("-V", "--version"):
        print(f"jaxvision {importlib.import_module('jaxvision').__version__}")
        return 0
    if name.startswith("--config"):  # as of the training program
        name, arguments = "train", [name, *arguments]
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS) or f" The commands are {', '.join(COMMANDS)}."
        terminal.print_error(f"no command {name!r}.{hint}")
        return 2
    module, _ = COMMANDS[name]
    sys.argv = [f"jaxvision {name}", *arguments]  # the name in a program's own help
    if module == "jaxvision.main":
        from jaxvision import main as program

        return program.main([*arguments, *(["--config.mode=eval"] if name == "eval" else [])])
    # Before everything else: the user's folder may have a package of the same name.
    sys.path.insert(0, str(resources.root()))
    importlib.import_module("tools.shared.command_line").start(importlib.import_module(module).main)


if __name__ == "__main__":
    sys.exit(main())
