"""Checkpoints into a module's variables: names, and what may differ between file and model."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from jaxvision.errors import UserError
from jaxvision.models.variables import Variables, classifier_names, flat_shapes
from jaxvision.weights import naming, state_dict
from jaxvision.weights.resize_tables import resize_position_embedding, resize_relative_position_table
from jaxvision.weights.state_dict import State


def read(module: nn.Module, source: str | Path | Mapping[str, Any]) -> State:
    """A file's or mapping's weights under timm's names for this module's family."""
    state, origin = naming.to_timm_names(state_dict.read_state_dict(source), type(module).__name__)
    ours = getattr(module, "bn_eps", None)
    if origin == "torchvision" and ours is not None and "conv_stem.weight" in state:
        theirs = naming.torchvision_bn_eps(state)
        if theirs != ours:
            # 1 / sqrt(var + eps) is all that sees either.
            shift = np.float32(theirs - ours)
            state = {k: v + shift if k.endswith("running_var") else v for k, v in state.items()}
            _say([f"torchvision's BN epsilon is {theirs:g}, this model's {ours:g}: running_var moved accordingly"])
    return state


def classes(module: nn.Module, in_chans: int, state: State) -> int | None:
    """Number of classes of a state dict's classifier; None where it has none, or as many as the module."""
    mine = flat_shapes(module, in_chans)
    if all(state[name].shape[0] == shape[0] for name, shape in mine.items() if name in state and state[name].ndim):
        return None
    heads = [f"{name}.weight" for name in sorted(classifier_names(module, in_chans))]
    return next((state[head].shape[0] for head in heads if head in state), None)


def fill(module: nn.Module, variables: Variables, in_chans: int, state: State, *, fresh_classifier: bool) -> Variables:
    """The variables with a state dict's values.

    Args:
      module: whose variables these are.
      variables: what to fill; keeps its classifier where the state has another number of classes.
      in_chans: channels of the module's images.
      state: under timm's names.
      fresh_classifier: whether ``variables`` has a classifier worth keeping.

    Raises:
      UserError: everything that does not fit.
    """
    mine = flat_shapes(module, in_chans)
    fresh: dict[str, int] = {}

    @functools.cache
    def depending() -> tuple[set[str], set[str]]:
        """Names whose shape depends on the number of classes, and of channels: other modules tell."""
        classes = flat_shapes(module.clone(num_classes=module.num_classes + 1), in_chans)
        channels = flat_shapes(module, in_chans + 1)
        return {n for n, s in mine.items() if classes[n] != s}, {n for n, s in mine.items() if channels[n] != s}

    def adapt(name: str, value: np.ndarray, wanted: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
        head, first = depending()
        if name in head and value.ndim == len(wanted) and value.shape[1:] == wanted[1:]:
            fresh[name] = value.shape[0]
            note = f"the file has {value.shape[0]} classes, the model {wanted[0]}: {name} left fresh"
            return _kept(variables["params"], name), note
        if name in first and value.ndim == 4 and (value.shape[0], *value.shape[2:]) == (wanted[0], *wanted[2:]):
            note = f"the file takes {value.shape[1]} input channels, the model {wanted[1]}: {name} adapted"
            return state_dict.adapt_input_channels(value, wanted[1]), note
        if name == "pos_embed" and value.ndim == 3 and value.shape[2] == wanted[2]:
            prefix = module.prefix_tokens if module.embed_class else 0
            side = round((value.shape[1] - prefix) ** 0.5)
            if side * side + prefix == value.shape[1]:
                note = f"pos_embed resampled from {side}x{side} to {module.grid[0]}x{module.grid[1]} patches"
                return resize_position_embedding(value, prefix, (side, side), module.grid), note
        if name.endswith("relative_position_bias_table") and value.ndim == 2 and value.shape[1] == wanted[1]:
            side = (round(value.shape[0] ** 0.5) + 1) // 2
            if (2 * side - 1) ** 2 == value.shape[0]:
                new = module.windows(int(name.split(".")[1]))[0]
                note = f"{name} resampled from windows of {side}x{side} to {new[0]}x{new[1]}"
                return resize_relative_position_table(value, (side, side), new), note
        return None

    filled, notes = state_dict.from_torch(state, variables, adapt)
    if fresh and (set(fresh) != depending()[0] or len(set(fresh.values())) > 1):
        counts = ", ".join(f"{name} {tuple(state[name].shape)}" for name in sorted(depending()[0]))
        raise UserError(f"the file's classifier disagrees with itself on the number of classes: {counts}")
    if fresh and not fresh_classifier:
        raise UserError(
            f"the file has {next(iter(fresh.values()))} classes and num_classes is {module.num_classes}: pass "
            "key=jax.random.key(seed) to start with a fresh classifier, or leave num_classes out to keep the file's"
        )
    _say(notes)
    return filled


def _kept(params: Variables, name: str) -> np.ndarray:
    leaf: Any = params
    *path, last = name.rsplit(".", 1)
    for entry in path:
        leaf = leaf[entry]
    return np.asarray(leaf[last])


def _say(notes: list[str]) -> None:
    if notes:
        shown = notes[:6] + ([f"... and {len(notes) - 6} more of these"] if len(notes) > 6 else [])
        warnings.warn("weights adapted: " + "; ".join(shown), UserWarning, stacklevel=4)
