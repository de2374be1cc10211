"""Filling a network's variables with a checkpoint: its names, and what may differ between the two."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.errors import UserError
from jaxvision.models.classifier import Classifier
from jaxvision.models.renaming import State
from jaxvision.models.variables import Variables, classifier_names, flat_shapes
from jaxvision.weights import prefix, state_dict


def read(module: Classifier, source: str | Path | Mapping[str, Any]) -> State:
    """The weights of a file or mapping under timm's names; the network's family knows those of other repositories."""
    state, notes = module.to_timm_names(prefix.remove(module, state_dict.read_state_dict(source)))
    _warn(notes)
    return state


def classes(module: Classifier, in_chans: int, state: State) -> int | None:
    """Number of classes of a state dict's classifier; None where it has none, or as many as the network."""
    mine = flat_shapes(module, in_chans)
    if all(state[name].shape[0] == shape[0] for name, shape in mine.items() if name in state and state[name].ndim):
        return None
    heads = [f"{name}.weight" for name in sorted(classifier_names(module, in_chans))]
    return next((state[head].shape[0] for head in heads if head in state), None)


def fill(
    module: Classifier,
    variables: Variables,
    in_chans: int,
    state: State,
    *,
    fresh_classifier: bool,
    classifier: str = "fresh classifier",
) -> Variables:
    """The variables with a state dict's values.

    Args:
      module: the network of these variables.
      variables: nested dicts of arrays; where the state dict has another number of classes, their classifier is kept.
      in_chans: channels of the network's images.
      state: the weights, under timm's names.
      fresh_classifier: whether ``variables`` has an initialised classifier that may be kept.
      classifier: what the warning calls a classifier that is kept.

    Raises:
      UserError: in one message, everything that does not fit.
    """
    mine = flat_shapes(module, in_chans)
    fresh: dict[str, int] = {}

    @functools.cache
    def depending() -> tuple[set[str], set[str]]:
        """Names of parameters whose shape depends on the number of classes, and on that of the image's channels."""
        classes = flat_shapes(module.clone(num_classes=module.num_classes + 1), in_chans)
        channels = flat_shapes(module, in_chans + 1)
        return {n for n, s in mine.items() if classes[n] != s}, {n for n, s in mine.items() if channels[n] != s}

    def adapt(name: str, value: np.ndarray, wanted: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
        head, first = depending()
        if name in head and value.ndim == len(wanted) and value.shape[1:] == wanted[1:]:
            fresh[name] = value.shape[0]
            layers = ", ".join(sorted({parameter.rpartition(".")[0] for parameter in head}))
            note = f"the file has {value.shape[0]} classes, the model {wanted[0]}: {classifier} ({layers})"
            return _kept(variables["params"], name), note
        if name in first and value.ndim == 4 and (value.shape[0], *value.shape[2:]) == (wanted[0], *wanted[2:]):
            note = f"the file takes {value.shape[1]} input channels, the model {wanted[1]}: {name} adapted"
            return state_dict.adapt_input_channels(value, wanted[1]), note
        return module.resampled(name, value)

    filled, notes = state_dict.from_torch(state, variables, adapt)
    if fresh and (set(fresh) != depending()[0] or len(set(fresh.values())) > 1):
        counts = ", ".join(f"{name} {tuple(state[name].shape)}" for name in sorted(depending()[0]))
        raise UserError(f"the file's classifier disagrees with itself on the number of classes: {counts}")
    if fresh and not fresh_classifier:
        raise UserError(
            f"the file has {next(iter(fresh.values()))} classes and num_classes is {module.num_classes}: pass "
            "key=jax.random.key(seed) to start with a fresh classifier, or leave num_classes out to keep the file's"
        )
    _warn(notes)
    return filled


def _kept(params: Variables, name: str) -> np.ndarray:
    leaf: Any = params
    *path, last = name.rsplit(".", 1)
    for entry in path:
        leaf = leaf[entry]
    return np.asarray(leaf[last])


def _warn(notes: list[str]) -> None:
    """One warning with the first notes, each one once, at the line outside this package that reads weights."""
    notes = list(dict.fromkeys(notes))  # the tensors of a classifier have the same one
    if notes:
        shown = notes[:6] + ([f"... and {len(notes) - 6} more of these"] if len(notes) > 6 else [])
        warnings.warn("weights adapted: " + "; ".join(shown), UserWarning, stacklevel=_frames_inside() + 1)


def _frames_inside() -> int:
    """How many frames, from the caller on, are in this package."""
    package, frame, count = str(Path(__file__).resolve().parents[1]), sys._getframe(1), 0
    while frame is not None and frame.f_code.co_filename.startswith(package):
        frame, count = frame.f_back, count + 1
    return count
