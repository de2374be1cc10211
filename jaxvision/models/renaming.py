"""Renaming the parameters of other repositories' checkpoints to timm's names, which are ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

State = dict[str, np.ndarray]
"""A checkpoint's arrays under dotted names, in torch's layouts: convolutions OIHW, linear weights (out, in)."""

Rules = Sequence[tuple[str, str]]
"""Pairs of a regular expression for a whole name and its replacement, as :func:`re.sub` takes them."""


def rename(state: Mapping[str, np.ndarray], rules: Rules) -> State:
    """The arrays under new names: of the rules the first that matches the whole name; names without one stay."""
    compiled = [(re.compile(pattern), new) for pattern, new in rules]

    def renamed(name: str) -> str:
        for pattern, new in compiled:
            if match := pattern.fullmatch(name):
                return match.expand(new)
        return name

    return {renamed(name): value for name, value in state.items()}


def is_torchvision_sequence(state: Mapping[str, np.ndarray]) -> bool:
    """Whether these are torchvision's names of a network that is one sequence of ``features``."""
    return any(name.startswith("features.") for name in state)


def split_torchvision_sequence(state: Mapping[str, np.ndarray]) -> State:
    """Names the parts of torchvision's ``features.<n>``, of networks that alternate stages and downsampling.

    ``features.0`` becomes ``stem``, ``features.1`` and ``.3`` become ``stage.0`` and ``stage.1``, ``features.2``, which
    is in front of ``stage.1``, becomes ``downsample.1``.
    """

    def renamed(name: str) -> str:
        match = re.match(r"features\.(\d+)\.", name)
        if not match:
            return name
        number = int(match[1])
        part = "stem" if number == 0 else f"stage.{number // 2}" if number % 2 else f"downsample.{number // 2}"
        return f"{part}.{name[match.end() :]}"

    return {renamed(name): value for name, value in state.items()}
