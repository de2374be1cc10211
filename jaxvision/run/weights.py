"""Weights and config of a training run, read from its workdir without building the run again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jaxvision.errors import UserError
from jaxvision.run.checkpoint import Checkpointer
from jaxvision.weights.state_dict import State, torch_layout


def weights_source(text: str, *, ema: bool = True) -> Path | State:
    """A config's text as something :func:`jaxvision.load_weights` takes: a file's path, or the weights of a workdir.

    Args:
      text: path of a file or of a run's workdir.
      ema: of a workdir, whether to take the EMA; otherwise the raw weights.

    Raises:
      UserError: it is a folder without a usable checkpoint.
    """
    path = Path(text).expanduser()
    return run_weights(path, ema=ema)[0] if path.is_dir() else path


def run_weights(workdir: Path, *, ema: bool, step: int | None = None) -> tuple[State, dict[str, Any], int]:
    """A run's weights under timm's names, its config, and their step.

    Args:
      workdir: of the run.
      ema: whether to take the EMA; otherwise the raw weights.
      step: of the checkpoint; None: the newest one that is not damaged.

    Raises:
      UserError: there is no usable checkpoint.
    """
    folder = workdir.expanduser().absolute() / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{workdir} is no workdir of a run: it has no folder `checkpoints`")
    checkpoints = Checkpointer(
        folder, keep=1, warn=lambda text: print(f"warning: {text}", file=sys.stderr), read_only=True
    )
    restored = checkpoints.restore(None, step=step)
    checkpoints.close()
    if restored is None:
        raise UserError(f"no checkpoints in {folder}")
    flat, meta, found = restored
    prefixes = ("ema_params.", "ema_batch_stats.") if ema else ("params.", "batch_stats.")
    state = {}
    for name, value in flat.items():
        for prefix in prefixes:
            if name.startswith(prefix):
                state[name.removeprefix(prefix)] = torch_layout(value)
    return state, meta["config"], found
