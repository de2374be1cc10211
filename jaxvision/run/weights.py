"""What a training run left in its workdir: weights, config and names of the classes, without building it again."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.errors import UserError, listed
from jaxvision.files import replace_text
from jaxvision.models.registry import ModelSpec, model_spec
from jaxvision.run.checkpoint import Checkpointer
from jaxvision.weights import published
from jaxvision.weights.hub import HubAccess
from jaxvision.weights.state_dict import State, torch_layout

CLASSES = "classes.txt"  # in a workdir: a name per line, in the classifier's order


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """A checkpoint of a run.

    Attributes:
      state: the weights, under timm's names.
      config: of the run, nested dicts.
      step: of the checkpoint.
      class_names: in the classifier's order; None where the run did not keep them.
      examples: how many it was trained and evaluated on; None where the run did not keep that.
    """

    state: State
    config: dict[str, Any]
    step: int
    class_names: tuple[str, ...] | None
    examples: tuple[int, int] | None


def weights_source(text: str, spec: ModelSpec, *, ema: bool = True) -> Path | State:
    """A config's text as a file, or as the weights of a workdir.

    A ``UserWarning`` says where named weights were trained on images that were normalised in another way.

    Args:
      text: path of a file or of a run's workdir, or weights by name, as in :mod:`jaxvision.weights.published`.
      spec: of the network that will take them, and of its images.
      ema: of a workdir, whether to take the EMA; otherwise the raw weights.

    Raises:
      UserError: it is a folder without a usable checkpoint, or named weights cannot be fetched or are of another model.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        return read_run(path, ema=ema).state
    if not published.is_name(text):
        return path
    found = published.find(text, HubAccess())
    published.check_architecture(found.spec, spec.name, text)
    if (found.spec.mean, found.spec.std) != (spec.mean, spec.std):
        if found.spec.published:
            raise UserError(
                f"{text} was trained on images normalised in another way than those of this run: write the tag in the "
                f"model's name, too: {found.spec.name}.{found.spec.tag}"
            )
        warnings.warn(
            f"{text} was trained on images with mean {found.spec.mean} and std {found.spec.std}, this run normalises "
            f"with {spec.mean} and {spec.std}: a tag in config.model.name chooses them",
            stacklevel=2,
        )
    return found.file


def read_run(workdir: Path, *, ema: bool, step: int | None = None) -> SavedRun:
    """A run's weights, config and class names.

    Args:
      workdir: of the run.
      ema: whether to take the EMA; otherwise the raw weights.
      step: of the checkpoint; None: the newest one that is not damaged.

    Raises:
      UserError: there is no usable checkpoint.
    """
    folder = workdir.expanduser().absolute() / "checkpoints"
    if not folder.is_dir():
        hint = f'; write "local-dir:{workdir}"' if (workdir / published.CONFIG).is_file() else ""
        raise UserError(f"{workdir} is no workdir of a run: it has no folder `checkpoints`{hint}")
    checkpoints = Checkpointer(
        folder, keep=1, warn=lambda text: print(f"warning: {text}", file=sys.stderr), read_only=True
    )
    restored = checkpoints.restore(None, step=step)
    checkpoints.close()
    if restored is None:
        raise UserError(f"no checkpoints in {folder}")
    flat, meta, found = restored
    if bad := not_finite(flat):
        raise UserError(f"the weights of step {found} in {folder} are not finite: {bad}")
    prefixes = ("ema_params.", "ema_batch_stats.") if ema else ("params.", "batch_stats.")
    state = {}
    for name, value in flat.items():
        for prefix in prefixes:
            if name.startswith(prefix):
                state[name.removeprefix(prefix)] = torch_layout(value)
    names, examples = trained_class_names(workdir.expanduser(), meta), meta.get("examples")
    return SavedRun(state, meta["config"], found, names, None if examples is None else tuple(examples))


def not_finite(flat: Mapping[str, np.ndarray]) -> str:
    """Names of the arrays of weights and statistics that hold a NaN or an infinity, the first three of them.

    Args:
      flat: the arrays of a checkpoint; those of the optimizer are not looked at.
    """
    kept = ("params.", "batch_stats.", "ema_params.", "ema_batch_stats.")
    bad = [name for name, value in flat.items() if name.startswith(kept) and not np.isfinite(value).all()]
    return listed(bad, 3)


def saved_model(workdir: Path) -> str | None:
    """The name of the model that a run's ``config.json`` has; None where there is none."""
    try:
        name = json.loads((workdir / "config.json").read_text(encoding="utf-8"))["model"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None


def another_network(saved: str, named: str) -> bool:
    """Whether two names with their tags are of different networks, or of images normalised in different ways."""
    a, b = model_spec(saved), model_spec(named)
    return (a.name, a.mean, a.std) != (b.name, b.mean, b.std)


def write_class_names(workdir: Path, names: Sequence[str]) -> None:
    """Writes a run's class names to its workdir."""
    replace_text(workdir / CLASSES, "".join(f"{name}\n" for name in names))


def trained_class_names(workdir: Path, meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The class names of a checkpoint, which its digest covers; for one without names, those of the workdir's file.

    Args:
      workdir: of the run.
      meta: of the checkpoint, as it was restored.

    Raises:
      UserError: the file has other names, or another order.
    """
    in_file = read_class_names(workdir)
    if "class_names" not in meta:  # of an older run
        return in_file
    trained = tuple(meta["class_names"])
    if in_file is not None and in_file != trained:
        differ = [
            f"{ours} (in the file {theirs})" for ours, theirs in zip(trained, in_file, strict=False) if ours != theirs
        ]
        found = ", ".join(differ[:3]) or f"{len(trained)} classes (in the file {len(in_file)})"
        raise UserError(
            f"{workdir / CLASSES} was changed, the checkpoint was trained with other classes: {found}. Delete the "
            "file: the checkpoint has the names, too"
        )
    return trained


def read_class_names(workdir: Path) -> tuple[str, ...] | None:
    """A run's class names, in the classifier's order; None where it did not keep them."""
    file = workdir / CLASSES
    return tuple(file.read_text(encoding="utf-8").split("\n")[:-1]) if file.is_file() else None
