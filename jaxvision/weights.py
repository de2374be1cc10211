"""torch state dicts to jaxvision variables and back, on numpy.

Modules carry timm's names, so there is one rule and no table: the parameter path
joined with dots is the timm key; four-dimensional weights are OIHW there and OHWI
here; everything else keeps its shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")


def read_state_dict(source: str | Path | Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Opens a file or takes a mapping, unwraps it, and returns numpy arrays under plain names."""
    if not isinstance(source, Mapping):
        source = _open(Path(source))
    for wrapper in _WRAPPERS:
        if isinstance(source.get(wrapper), Mapping):
            source = source[wrapper]
            break
    return {name.removeprefix("module."): _numpy(value) for name, value in source.items()}


def from_torch(state_dict: Mapping[str, np.ndarray], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables shaped like ``variables`` with the state dict's values, float32.

    Raises:
      UserError: listing every missing key, unknown key and wrong shape.
    """
    flat = {name: leaf for name, _, leaf in _walk(variables)}
    extra = sorted(k for k in state_dict if k not in flat and not k.endswith("num_batches_tracked"))
    problems = [f"unknown key {key}" for key in extra]
    filled = {}
    for name, leaf in flat.items():
        if name not in state_dict:
            problems.append(f"missing key {name} {_torch_shape(leaf.shape)}")
            continue
        value = np.asarray(state_dict[name])
        if value.shape != _torch_shape(leaf.shape):
            problems.append(f"shape of {name}: expected {_torch_shape(leaf.shape)}, file has {value.shape}")
            continue
        filled[name] = jnp.asarray(value.transpose(0, 2, 3, 1) if value.ndim == 4 else value, jnp.float32)
    if problems:
        raise UserError(f"{len(problems)} problems with the weights:\n  " + "\n  ".join(problems))
    return jax.tree_util.tree_map_with_path(lambda path, _: filled[_name(path)], dict(variables))


def to_torch(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """float32 numpy arrays under timm's names, ``num_batches_tracked`` included."""
    result = {}
    for name, kind, leaf in _walk(variables):
        value = np.asarray(leaf, np.float32)
        result[name] = np.ascontiguousarray(value.transpose(0, 3, 1, 2)) if value.ndim == 4 else value
        if kind == "batch_stats" and name.endswith("running_var"):
            result[name.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return result


def _walk(variables: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(dict(variables))[0]
    return [(_name(path), path[0].key, leaf) for path, leaf in leaves]


def _name(path: tuple) -> str:
    return ".".join(entry.key for entry in path[1:])


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else tuple(shape)


def _numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
        return value.numpy()
    return np.asarray(value)


def _open(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise UserError(f"weights file not found: {path}")
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        try:
            return load_file(path)
        except Exception as error:  # safetensors raises its own type; the file is the user's
            raise UserError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        import torch
    except ImportError as error:
        raise UserError(f"opening {path} needs torch; convert it to .safetensors, or install torch") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is not a plain torch checkpoint (weights_only=True refused it): {error}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, expected a state dict")
    return content
