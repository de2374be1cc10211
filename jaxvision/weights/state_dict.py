"""torch state dicts to jaxvision variables and back, on numpy.

Modules carry timm's names, so there is one rule and no table: the parameter path
joined with dots is the timm key; four-dimensional weights are OIHW there and OHWI
here; everything else keeps its shape.
"""

from __future__ import annotations

import argparse
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError
from jaxvision.files import check_regular
from jaxvision.models.renaming import State
from jaxvision.weights import hints

# adapt(name, value, torch shape wanted): a value of that shape with a note, or None where it cannot.
Adapt = Callable[[str, np.ndarray, tuple[int, ...]], tuple[np.ndarray, str] | None]

# Of the common trainers, averages first.
_WRAPPERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model_state", "model", "net",
    "network", "weights", "params",
)  # fmt: skip
_WRAPPED_BY = ("module.", "_orig_mod.", "module.")  # by torch itself, around any module
# Of a trainer's own class that holds the network; the last one of Hugging Face transformers' wrapper of timm.
_ATTRIBUTES = ("model.", "net.", "network.", "backbone.", "timm_model.")
_LARGEST_HEADER = 100_000_000  # bytes of a safetensors file: the format's own limit
_EXPANSION = 16  # of a torch file in memory over its size on disk; torch itself does not compress
_LARGEST_EXPANDED = 2**28  # elements of a tensor that repeats fewer stored ones
_COUNTER = "num_batches_tracked"  # of torch's batch normalisation; nothing reads it


def read_state_dict(source: str | Path | Mapping[str, Any]) -> State:
    """Opens a file or takes a mapping, unwraps it, and returns numpy arrays under plain names.

    Raises:
      UserError: the file is missing, damaged, of another kind, or holds pickled code.
    """
    if not isinstance(source, Mapping):
        source = open_file(Path(source))
    for wrapper in _WRAPPERS:
        if isinstance(source.get(wrapper), Mapping):
            source = source[wrapper]
            break
    state, unusable = {}, []
    for name, value in source.items():
        for prefix in _WRAPPED_BY:
            name = str(name).removeprefix(prefix)
        if problem := _tensor_problem(value):
            unusable.append(f"{name} {problem}")
        elif hasattr(value, "shape"):
            state[name] = _numpy(value)
    if unusable:
        shown = unusable[:10] + ([f"... and {len(unusable) - 10} more"] if len(unusable) > 10 else [])
        raise UserError(
            f"weights have to be dense tensors of real numbers: {'; '.join(shown)}. Convert them where they were made, "
            "for example with to_dense() or dequantize(), and save the state dict again"
        )
    while shared := [prefix for prefix in _ATTRIBUTES if state and all(name.startswith(prefix) for name in state)]:
        state = {name.removeprefix(shared[0]): value for name, value in state.items()}
    if not state:
        raise UserError(
            f"no weights found: expected a state dict, plain or under {', '.join(map(repr, _WRAPPERS))}; "
            f"the keys are {', '.join(map(str, list(source)[:8])) or 'none'}"
        )
    return state


def from_torch(state: Mapping[str, np.ndarray], variables: Mapping[str, Any], adapt: Adapt) -> tuple[dict, list[str]]:
    """Variables shaped like ``variables`` with the state dict's values, float32, and notes on what was adapted.

    Args:
      state: numpy arrays under timm's names.
      variables: what to fill.
      adapt: called for each array whose shape differs from the model's; see :data:`Adapt`.

    Raises:
      UserError: listing every missing key, unknown key, wrong shape and value that is not finite.
    """
    flat = {name: leaf for name, _, leaf in _walk(variables)}
    extra = sorted(key for key in state if key not in flat and not key.endswith(_COUNTER))
    problems = [f"unknown key {key} {tuple(state[key].shape)}" for key in extra]
    filled, notes = {}, []
    for name, leaf in flat.items():
        if name not in state:
            problems.append(f"missing key {name} {_torch_shape(leaf.shape)}")
            continue
        value, wanted = np.asarray(state[name]), _torch_shape(leaf.shape)
        if value.shape != wanted and _squeeze(value.shape) == _squeeze(wanted):
            value = value.reshape(wanted)  # a linear layer stored as 1x1 convolution, or the reverse
        if value.shape != wanted:
            adapted = adapt(name, value, wanted)
            if adapted is None:
                problems.append(f"shape of {name}: expected {wanted}, file has {value.shape}")
                continue
            value, note = adapted
            notes.append(note)
        value = np.asarray(value, np.float32)
        if count := np.count_nonzero(~np.isfinite(value)):
            problems.append(f"{name}: {count} of {value.size} values are not finite")
            continue
        filled[name] = jnp.asarray(value.transpose(0, 2, 3, 1) if value.ndim == 4 else value)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        shown = problems[:40] + ([f"... and {len(problems) - 40} more"] if len(problems) > 40 else [])
        raise UserError(f"{count} with the weights:\n  " + "\n  ".join(shown))
    return jax.tree_util.tree_map_with_path(lambda path, _: filled[_name(path)], dict(variables)), notes


def to_torch(variables: Mapping[str, Any]) -> State:
    """float32 numpy arrays under timm's names, ``num_batches_tracked`` included."""
    result = {}
    for name, kind, leaf in _walk(variables):
        result[name] = torch_layout(np.asarray(leaf, np.float32))
        if kind == "batch_stats" and name.endswith("running_var"):
            result[name.replace("running_var", _COUNTER)] = np.zeros((), np.int64)
    return result


def torch_layout(value: np.ndarray) -> np.ndarray:
    """A weight as torch stores it: four-dimensional ones OIHW, contiguous; others as they are."""
    return np.ascontiguousarray(value.transpose(0, 3, 1, 2)) if value.ndim == 4 else value


def adapt_input_channels(weight: np.ndarray, channels: int) -> np.ndarray:
    """A first convolution (O, I, H, W) for another number of channels: summed for one, else repeated and rescaled.

    Source: timm's ``adapt_input_conv``.
    """
    if channels == 1:
        return weight.sum(1, keepdims=True)
    given = weight.shape[1]
    repeated = np.concatenate([weight] * math.ceil(channels / given), 1)[:, :channels]
    return repeated * np.float32(given / channels)


def _walk(variables: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(dict(variables))[0]
    return [(_name(path), path[0].key, leaf) for path, leaf in leaves]


def _name(path: tuple) -> str:
    return ".".join(entry.key for entry in path[1:])


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else tuple(shape)


def _squeeze(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


def _tensor_problem(value: Any) -> str | None:
    """Why a torch tensor has no plain array of numbers, or None."""
    if getattr(value, "is_nested", False):
        return "is nested"
    if getattr(value, "is_quantized", False):
        return "is quantized"
    if getattr(value, "is_meta", False):
        return "is on the meta device and has no values"
    if (layout := str(getattr(value, "layout", "torch.strided"))) != "torch.strided":
        return f"is sparse ({layout})"
    if hasattr(value, "untyped_storage") and value.numel() > _LARGEST_EXPANDED:
        stored = value.untyped_storage().nbytes() // value.element_size()
        if value.numel() > stored:
            return f"repeats {stored} stored values {value.numel()} times over"
    return "is complex" if hasattr(value, "is_complex") and value.is_complex() else None


def _numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.resolve_neg() if value.is_neg() else value
        value = value.float() if value.is_floating_point() else value
        return value.numpy()
    return np.asarray(value)


def open_file(path: Path) -> Mapping[str, Any]:
    """The content of a ``.safetensors`` or torch file; which of them it is follows from its first bytes."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: {hints.of_folder(path)}")
    check_regular(path)
    if not path.is_file():
        raise UserError(f"weights file not found: {path}.{hints.of_missing(path)}")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x04") and path.suffix != ".safetensors":
        return _open_torch(path)
    if len(start) >= 9 and start[8:9] == b"{":
        return _open_safetensors(path, size, int.from_bytes(start[:8], "little"))
    what = "an empty file" if not start else "text" if start.isascii() else "of an unknown kind"
    if b"<html" in start.lower() or b"<!doctype" in start.lower():
        what = "a web page; the download went wrong"
    elif start.startswith(b"version https://git-lfs"):
        what = "a git-lfs pointer; fetch the file itself with `git lfs pull`"
    raise UserError(f"{path} is {what}; expected weights as .safetensors, or a torch checkpoint (.pth, .pt, .bin)")


def _check_expansion(path: Path) -> None:
    """Refuses a torch file, which is a zip archive, that would take far more memory than its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # of torch's older format, or damaged, which torch will say
    if total > _EXPANSION * (size := path.stat().st_size):
        raise UserError(
            f"{path} was refused: {size} bytes that expand to {total}; weights saved by torch.save are not compressed"
        )


def _open_safetensors(path: Path, size: int, header: int) -> Mapping[str, Any]:
    if header + 8 > size:
        raise UserError(f"{path} is truncated: {size} bytes, its header alone has {header + 8}")
    if header > _LARGEST_HEADER:
        raise UserError(f"{path} is damaged: its header claims {header} bytes, at most {_LARGEST_HEADER} are read")
    from safetensors.flax import load_file  # numpy's reader has no bfloat16

    try:
        with path.open("rb") as file:
            table = json.loads(file.read(8 + header)[8:])
        end = 8 + header + max((t["data_offsets"][1] for k, t in table.items() if k != "__metadata__"), default=0)
        if end > size:
            raise UserError(f"{path} is truncated: {size} bytes, its header announces {end}; fetch it again")
        return load_file(path)
    except UserError:
        raise
    except Exception as error:  # safetensors raises its own type; the file is the user's
        raise UserError(f"{path} is not a readable safetensors file: {error}") from error


def _open_torch(path: Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"opening {path} needs torch (pip install torch); or convert it to .safetensors where torch is installed: "
            "jaxvision import NAME --weights FILE --out FILE.safetensors"
        ) from error
    _check_expansion(path)
    try:
        # Published checkpoints carry their command line in a Namespace, which is plain data.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, ... for what the user gave
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            found = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), reason)
            raise UserError(
                f"{path} was refused: besides tensors it holds pickled code or objects, which could run anything on "
                f"loading ({found}). Save the state dict alone: torch.save(model.state_dict(), FILE)"
            ) from error
        raise UserError(f"{path} is damaged or truncated, or no torch checkpoint: {reason}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, expected a state dict: save model.state_dict()")
    return content
