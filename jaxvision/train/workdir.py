"""The folder of a run: checked, locked and described before the first step."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision.config import Config
from jaxvision.data.classes import class_differences
from jaxvision.errors import UserError
from jaxvision.files import check_folder, check_regular, replace_text
from jaxvision.run import lock, records
from jaxvision.run.weights import CLASSES, another_network, read_class_names, saved_model, write_class_names

FILES = ("config.json", CLASSES, records.NAME, "metrics.csv", "curves.png", lock.NAME)
FOLDERS = (".", "checkpoints", "tensorboard")


@contextlib.contextmanager
def open_workdir(
    workdir: Path, config: Config, class_names: Sequence[str], warn: Callable[[str], None]
) -> Iterator[None]:
    """Creates a workdir, locks it for the block, and saves the resolved config and the class names in it.

    Raises:
      UserError: another run trains in it, it has a run of another model or with other classes, something in it is not
        what this run would write, or it cannot be written to.
    """
    with contextlib.ExitStack() as held:
        try:
            _check_kinds(workdir)
            workdir.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock.locked(workdir, warn))
            if (workdir / "checkpoints").is_dir():
                _check_same_run(workdir, config, class_names)
            _describe(workdir, config, class_names)
        except OSError as error:
            raise UserError(
                f"cannot write to the workdir {workdir}: {error.strerror}. Choose another --workdir."
            ) from error
        yield


def keep_description(workdir: Path, config: Config, class_names: Sequence[str], warn: Callable[[str], None]) -> None:
    """Writes config and class names again where they were deleted during the run, which ``warn`` is told."""
    if all((workdir / name).exists() for name in ("config.json", CLASSES)):
        return
    try:
        _describe(workdir, config, class_names)
        warn(f"files in {workdir} were deleted during the run: config.json and {CLASSES} are written again")
    except OSError as error:
        warn(f"files in {workdir} were deleted during the run, and cannot be written again: {error.strerror}")


def check_same_classes(workdir: Path, trained: Sequence[str] | None, class_names: Sequence[str]) -> None:
    """Refuses data whose classes are not those that a run was trained with; None: it did not keep them.

    Raises:
      UserError: the message has the classes that differ.
    """
    if trained is not None and tuple(trained) != tuple(class_names):
        found = class_differences("of the run", trained, "of the data", class_names)
        raise UserError(f"{workdir} has a run with other classes than this data ({found}): choose another --workdir")


def check_same_examples(workdir: Path, meta: Mapping[str, Any], config: Config, examples: tuple[int, int]) -> None:
    """Refuses to resume where the data grew or shrank: the order of examples and the parts of a fold follow its size.

    Args:
      workdir: of the run.
      meta: of the checkpoint, with the numbers of examples and the config of the run.
      config: of the command; where its ``data`` differs, the user has other data in mind and is told of the change.
      examples: to train and to evaluate on now.

    Raises:
      UserError: the message has both numbers.
    """
    before = meta.get("examples")
    same_data = meta.get("config", {}).get("data") == json.loads(config.to_json())["data"]
    if before is not None and same_data and tuple(before) != examples:
        raise UserError(
            f"{workdir} has a run on {before[0]} training and {before[1]} evaluation images, the data {examples[0]} "
            f"and {examples[1]} now: their order, and which are set aside, would be others. Choose another --workdir; "
            f"--config.model.weights={workdir} starts from this run's weights"
        )


def run_class_differences(weights: str, class_names: Sequence[str]) -> str | None:
    """How the classes that weights were trained for differ from those of the data, and what to do.

    Args:
      weights: as in a config; only a run's workdir says which classes it had.
      class_names: of the data.

    Returns:
      None where they are the same, or not known.
    """
    workdir = Path(weights).expanduser()
    names = read_class_names(workdir) if weights else None
    if names is None or names == tuple(class_names):
        return None
    found = f"other classes ({class_differences('in these weights', names, 'in the data', class_names)})"
    if set(class_names) <= set(names):
        return f"{found}; --config.data.class_map={workdir / CLASSES} takes their order"
    return found


def _describe(workdir: Path, config: Config, class_names: Sequence[str]) -> None:
    replace_text(workdir / "config.json", json.dumps(json.loads(config.to_json()), indent=2) + "\n")
    write_class_names(workdir, class_names)


def _check_kinds(workdir: Path) -> None:
    """Refuses folders, pipes and devices in the place of a run's files: before training, not after it."""
    problems = []
    for check, names in ((check_regular, FILES), (check_folder, FOLDERS)):
        for name in names:
            try:
                check(workdir / name)
            except UserError as error:
                problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))


def _check_same_run(workdir: Path, config: Config, class_names: Sequence[str]) -> None:
    """Refuses another model or other classes than the run that a workdir has."""
    old = saved_model(workdir) or config.model.name  # without it another model is found by its arrays
    if another_network(old, config.model.name):
        raise UserError(
            f"{workdir} has a run of {old}, this command trains {config.model.name}.\n"
            f"To train {config.model.name}, choose another --workdir.\n"
            f"To go on with {old}: --config {workdir}"
        )
    check_same_classes(workdir, read_class_names(workdir), class_names)
