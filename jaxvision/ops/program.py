"""How whole programs are traced and compiled, where that depends on the backend."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax

from jaxvision.ops.backend import operation


@operation
def compiler_options(*, attends: bool, train: bool = False) -> dict[str, str]:
    """For the ``compiler_options`` of the outermost ``jax.jit`` around a network or its train step.

    Args:
      attends: whether the network is one of attention; ``attends`` of its module says so.
      train: whether the program computes gradients.
    """
    return {}


@operation
def prepare_train_step(step: Callable[..., Any]) -> Callable[..., Any]:
    """The train step ``step``, to be jitted, with the implementations that only training may use."""
    return step


@dataclasses.dataclass(frozen=True)
class Inference:
    """How a program for inference is traced and compiled; see :func:`inference`.

    Attributes:
      uses_onednn: whether its convolutions are computed by oneDNN where that is faster.
      small_batch: as many images at most are computed by XLA's own convolutions, with its own options and with weights
        that are constants of the program, which it then packs while it compiles.
      tracing: makes a context manager, inside which the program has to be traced.
      jit: called like ``jax.jit``, with a function and ``compiler_options``.
    """

    uses_onednn: bool = False
    small_batch: int = 0
    tracing: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    jit: Callable[..., Callable[..., Any]] = jax.jit


@operation
def inference(*, use_onednn: bool = True) -> Inference:
    """How programs for inference are traced and compiled on this backend.

    Args:
      use_onednn: call oneDNN, if the backend can.
    """
    return Inference()
