"""A model against timm's with the same weights: outputs, gradients and export. ``tools/parity/models.py`` runs it."""

from __future__ import annotations

import copy
import functools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxvision
from jaxvision.models.registry import build_module
from jaxvision.weights.state_dict import torch_layout
from tools.parity.equality import largest, relative_error
from tools.parity.reference import (
    CLASSES,
    ill_conditioned,
    nchw,
    random_images,
    timm,
    torch,
    torch_gradients,
    trained_like,
)

FORWARD, GRADIENT = 1e-4, 1e-3  # relative errors below which two sides are equal
LIMITS = {"logits": FORWARD, "embed": FORWARD, "features": FORWARD, "gradients": GRADIENT, "fused": FORWARD}


def comparable(patterns: list[str]) -> list[str]:
    """The models that any of the patterns names and that timm has; big_vision's plain ViTs, for one, it has not."""
    names = dict.fromkeys(name for pattern in patterns for name in jaxvision.list_models(pattern))
    return [name for name in names if timm.is_model(name)]


def native_size(name: str) -> tuple[int, int]:
    """The input size of a model's published weights."""
    return (jaxvision.model_spec(name).input_size,) * 2


def small_size(name: str) -> tuple[int, int]:
    """A small input that still exercises paddings, odd maps and shifted windows."""
    return (64, 64) if build_module(name).image_size else (75, 75)


def timm_size(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """timm's argument for an image size, where the model needs one."""
    return {"img_size": size} if build_module(name).image_size else {}


def timm_maps(reference: torch.nn.Module, x: torch.Tensor, count: int) -> list[np.ndarray]:
    """timm's last ``count`` intermediate maps, (N, H, W, C)."""
    maps = reference.forward_intermediates(x, intermediates_only=True)
    return [m.permute(0, 2, 3, 1).numpy() for m in maps[-count:]]


def timm_names(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a tree of our variables under timm's names and in its layouts."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {".".join(entry.key for entry in path[1:]): torch_layout(np.asarray(leaf)) for path, leaf in flat}


@functools.partial(jax.jit, static_argnums=0)
def module_outputs(module: Any, variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Logits, embedding and maps in one program: XLA computes what they share once."""
    logits, embed, maps = (module.apply(variables, x, output=output) for output in ("logits", "embed", "features"))
    return logits, embed, maps


def forward_errors(reference: torch.nn.Module, model: jaxvision.Model, x: np.ndarray) -> dict[str, float]:
    """Errors of logits, embedding, the worst map, and the fused model's logits, in evaluation mode.

    Raises:
      NotFiniteError: one side holds NaN or infinity.
    """
    reference.eval()
    tx = nchw(x)
    with torch.no_grad():
        logits = reference(tx).numpy()
        pooled = reference.forward_head(reference.forward_features(tx), pre_logits=True).numpy()
        ours, embed, maps = module_outputs(model.module, model.variables, x)
        expected = timm_maps(reference, tx, len(maps))
    errors = {
        "logits": relative_error(ours, logits),
        "embed": relative_error(embed, pooled),
        "features": largest(relative_error(a, b) for a, b in zip(maps, expected, strict=True)),
    }
    if model.variables["batch_stats"]:
        errors["fused"] = relative_error(jaxvision.fuse(model)(x), logits)
    return errors


def rounding(reference: torch.nn.Module, model: jaxvision.Model, x: np.ndarray) -> dict[str, float]:
    """How far our and timm's float32 logits are from timm's float64 ones, in evaluation mode.

    With batch normalisation the weights are those of :func:`ill_conditioned`, otherwise as given. Both sides' errors
    vary from one set of weights to the next, by up to a factor of 10 and independently of each other: of one reading
    only the order of magnitude counts.

    Raises:
      NotFiniteError: one side holds NaN or infinity.
    """
    if model.variables["batch_stats"]:
        reference = ill_conditioned(reference, x)
        model = jaxvision.load_weights(model, {key: value.clone() for key, value in reference.state_dict().items()})
    ours = module_outputs(model.module, model.variables, x)[0]
    with torch.no_grad():
        theirs = reference.eval()(nchw(x)).numpy()
        exact = copy.deepcopy(reference).double()(nchw(x.astype(np.float64))).numpy()
    return {"rounding": relative_error(ours, exact), "timm's rounding": relative_error(theirs, exact)}


@functools.partial(jax.jit, static_argnums=(0, 1))
def module_gradients(module: Any, train: bool, variables: Any, x: jax.Array) -> Any:
    """((parameter gradients, image gradient), updated statistics) of the loss of :func:`torch_gradients`."""
    labels = np.eye(CLASSES, dtype=x.dtype)[np.arange(len(x)) * 3 % CLASSES]

    def loss(params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        logits, updated = module.apply({**variables, "params": params}, x, train=train, mutable=["batch_stats"])
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * labels, 1)), updated

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], x)


def gradient_error(
    reference: torch.nn.Module, model: jaxvision.Model, size: tuple[int, int], enough: float = GRADIENT, tries: int = 8
) -> float:
    """The worst error over all parameters and the input, with running statistics, in float32.

    An activation within rounding of a ReLU's kink may fall to the other side, and change gradients by a percent, in
    either framework (ResNeSt-50 at 224 px: timm's float32 is then 2e-3 off its float64); a wrong formula would be wrong
    on every input. So each tensor's best of up to ``tries`` inputs counts, against timm in float32 and, where that is
    not ``enough``, in float64.

    Raises:
      NotFiniteError: on one of the inputs, a gradient of either side is NaN or infinite.
    """
    reference.eval()
    best: dict[str, float] = {}
    for seed in range(tries):
        x = random_images(size, seed)
        (grads, ours_dx), _ = module_gradients(model.module, False, model.variables, x)
        ours = timm_names({"params": grads}) | {"input": ours_dx}
        for wide in (False, True):
            reference = reference.double() if wide else reference.float()
            expected, dx = torch_gradients(reference, x.astype(np.float64) if wide else x)
            expected = expected | {"input": dx}
            assert set(ours) == set(expected)
            errors = {key: relative_error(ours[key], gradient) for key, gradient in expected.items()}
            best = {key: float(np.minimum(error, best.get(key, math.inf))) for key, error in errors.items()}
            if largest(best.values()) < enough:
                reference.float()
                return largest(best.values())
    reference.float()
    return largest(best.values())


def round_trip(reference: torch.nn.Module, model: jaxvision.Model) -> bool:
    """Whether the export loads strictly into timm and, imported again, has the same bits."""
    exported = jaxvision.to_torch(model)
    reference.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in exported.items()}, strict=True)
    again = jaxvision.load_weights(model, reference.state_dict())
    leaves = zip(jax.tree.leaves(again.variables), jax.tree.leaves(model.variables), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def compare(name: str, size: tuple[int, int], *, gradients: bool = True) -> dict[str, Any]:
    """A row of the table: :func:`compare_pair` of a name's two models, with its input size and the seconds it took.

    Raises:
      NotFiniteError: one side holds NaN or infinity.
    """
    start = time.perf_counter()
    reference = trained_like(name, num_classes=CLASSES, **timm_size(name, size))
    state = {k: v.clone() for k, v in reference.state_dict().items()}
    model = jaxvision.create_model(name, num_classes=CLASSES, image_size=size, weights=state)
    row = {"name": name, "size": f"{size[0]}x{size[1]}", **compare_pair(reference, model, size, gradients=gradients)}
    return row | {"seconds": round(time.perf_counter() - start, 1)}


def compare_pair(
    reference: torch.nn.Module, model: jaxvision.Model, size: tuple[int, int], *, gradients: bool = True
) -> dict[str, Any]:
    """Errors of a model with the reference's weights, whether the export is bit-exact, and whether all is equal.

    Raises:
      NotFiniteError: one side holds NaN or infinity.
    """
    row: dict[str, Any] = forward_errors(reference, model, random_images(size, 1))
    row |= rounding(reference, model, random_images(size, 1))
    if gradients:
        row["gradients"] = gradient_error(reference, model, size)
    row["round_trip"] = round_trip(reference, model)
    row["equal"] = row["round_trip"] and all(row[key] < limit for key, limit in LIMITS.items() if key in row)
    return row
