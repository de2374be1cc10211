"""Ten whole training steps of a recipe against timm's parts. ``tools/parity/steps.py`` runs it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxvision
from jaxvision.config import Config, resolve
from jaxvision.main import load_config
from jaxvision.models.registry import build_module, model_spec
from jaxvision.optim.optimizers import make_optimizer
from jaxvision.train import build
from jaxvision.train.state import create_state
from tools.parity.compare_models import timm_names, timm_size
from tools.parity.equality import finite, largest, relative_error
from tools.parity.reference import CLASSES, torch, trained_like

from timm import loss as timm_loss  # isort: skip  (importable after tools.parity.reference)
from timm import optim as timm_optim  # isort: skip

ROOT = Path(__file__).resolve().parents[2]
STEPS, BATCH, LAMBDA = 10, 8, 0.7
LIMIT = 1e-4
RUN = build.Lengths(total=40, per_epoch=2.0, warmup=4, eval_every=100, log_every=1, save_every=0)
# recipe, small relative of its model, pixels
RECIPES = (
    ("resnet_rs50", "resnetrs50", 64),
    ("resnet50_a1", "resnet10t", 64),
    ("resnet50_a2", "resnet10t", 64),
    ("resnet50_tv2", "resnet10t", 64),
    ("resnet50d_a1", "resnet18d", 64),
    ("seresnext50", "seresnet18", 64),
    ("resnest50", "resnest14d", 64),
    ("efficientnet_b0", "tf_efficientnet_b0", 64),
    ("efficientnetv2_b0", "tf_efficientnetv2_b0", 64),
    ("convnext_t", "convnext_atto", 64),
    ("swin_t", "swin_tiny_patch4_window7_224", 64),
    ("deit_s", "deit_tiny_patch16_224", 64),
    ("deit3_s", "deit3_small_patch16_224", 64),
)


def quiet(name: str, model: str | None = None) -> Config:
    """A config of configs/ with everything random off and its learning rate scaled to the small batch.

    With ``model`` the recipe trains that model instead of its own.

    SGD's is a hundredth of that: its steps grow with the gradient, and from these weights ResNet-50 is chaotic
    otherwise (at batch 8, 1e-14 in the loss of the first step is 2e-2 in that of the tenth).
    """
    c = load_config(str(ROOT / "configs" / f"{name}.py"), [])
    c.model.name = model or c.model.name
    c.model.drop_rate = c.model.drop_path_rate = c.model.drop_block_rate = 0.0
    share = BATCH / c.batch_size
    factor = share**0.5 if c.optimizer.name in ("adamw", "lamb") else share
    factor *= 0.01 if c.optimizer.name == "sgd" else 1.0
    c.optimizer.learning_rate *= factor
    c.schedule.start_learning_rate *= factor
    c.schedule.end_learning_rate *= factor
    c.log_every, c.replicas = 1, 1  # torch's side is one process
    c.progressive.image_size = c.progressive.magnitude = c.progressive.mix = ()
    return resolve(c)


def trained_weights(name: str, size: int) -> torch.nn.Module:
    """timm's model with the weights both sides start from, without the stochastic depth its Swin has by default."""
    return trained_like(name, num_classes=CLASSES, drop_path_rate=0.0, **timm_size(name, (size, size)))


def mix(key: jax.Array | None, images: Any, targets: Any) -> tuple[Any, Any]:
    """Mixup with the reversed batch and a fixed lambda."""
    both = (LAMBDA * x + (1 - LAMBDA) * x[::-1] for x in (images, targets))
    return next(both), next(both)


def batches(size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ten batches of images, (B, S, S, 3) float64, and labels."""
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((BATCH, size, size, 3)), rng.integers(0, CLASSES, BATCH)) for _ in range(STEPS)]


# ---------------------------------------------------------------------- timm's side


def timm_groups(recipe: str, c: Config, model: torch.nn.Module) -> list[dict[str, Any]]:
    """Parameter groups of what the recipe's authors let decay, written here without the rules of its config."""
    norms = {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        for own, _ in module.named_parameters(recurse=False)
    }
    # torchvision and tensorflow/tpu's EfficientNet decay biases, too; then Swin's, DeiT's and timm's own lists.
    biases_too = recipe in ("resnet50_tv2", "efficientnet_b0")
    kept = re.compile(r".*(pos_embed|cls_token|dist_token|relative_position_bias_table)")
    groups: tuple[list, list] = ([], [])
    for name, parameter in model.named_parameters():
        vector = parameter.ndim <= 1 or kept.fullmatch(name) is not None
        free = name in norms if biases_too else vector
        groups[free].append(parameter)
    return [{"params": p, "weight_decay": d} for p, d in zip(groups, (c.optimizer.weight_decay, 0.0), strict=True) if p]


def timm_optimizer(c: Config, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """torch's or timm's optimizer with the recipe's values."""
    o = c.optimizer
    if o.name == "sgd":
        return torch.optim.SGD(groups, lr=0.1, momentum=o.momentum, nesterov=o.nesterov)
    if o.name == "adamw":
        return torch.optim.AdamW(groups, lr=0.1, betas=(o.b1, o.b2), eps=o.eps)
    if o.name == "lamb":
        return timm_optim.Lamb(groups, lr=0.1, betas=(o.b1, o.b2), eps=o.eps)
    return timm_optim.RMSpropTF(groups, lr=0.1, alpha=o.rho, eps=o.eps, momentum=o.momentum)


def timm_criterion(c: Config) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """timm's loss of soft targets."""
    if c.loss.name == "binary":
        threshold = None if c.loss.target_threshold < 0 else c.loss.target_threshold
        return timm_loss.BinaryCrossEntropy(smoothing=0.0, target_threshold=threshold)
    return timm_loss.SoftTargetCrossEntropy()


def timm_steps(name: str, c: Config, size: int, rates: Sequence[float], dtype: torch.dtype) -> tuple[list[float], dict]:
    """Losses of the steps; the final weights and their EMA, by name."""
    model = trained_weights(c.model.name, size).to(dtype).train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = c.model.bn_momentum
    optimizer, criterion = timm_optimizer(c, timm_groups(name, c, model)), timm_criterion(c)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    losses = []
    for i, (images, labels) in enumerate(batches(size)):
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(dtype)
        smoothing = c.loss.label_smoothing
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels), CLASSES).to(dtype)
        targets = one_hot * (1 - smoothing) + smoothing / CLASSES
        x, targets = (LAMBDA * v + (1 - LAMBDA) * v.flip(0) for v in (x, targets))
        loss = criterion(model(x), targets)
        optimizer.zero_grad()
        loss.backward()
        if c.optimizer.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), c.optimizer.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = rates[i]
        optimizer.step()
        decay = min(c.ema.decay, (2 + i) / (11 + i)) if c.ema.warmup else c.ema.decay
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                average[key] = decay * average[key] + (1 - decay) * value
        losses.append(loss.item())
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    return losses, {"weights": state, "average": {k: average[k] for k in state}}


# ---------------------------------------------------------------------- our side


def our_steps(c: Config, size: int, dtype: Any) -> tuple[list[float], dict]:
    """The same of the config's own train step."""
    reference = trained_weights(c.model.name, size)
    module = build_module(
        c.model.name, num_classes=CLASSES, image_size=size, dtype=dtype, bn_momentum=c.model.bn_momentum
    )
    model = jaxvision.create_model(c.model.name, num_classes=CLASSES, image_size=size, weights=reference.state_dict())
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), model.variables)
    network = build.Network(module, model_spec(c.model.name), CLASSES, dtype)
    optimizer = make_optimizer(c.optimizer, variables["params"], module.layer_groups)
    step = jax.jit(build.train_step(c, network, optimizer, RUN, mix=mix))
    state, losses = create_state(variables, optimizer), []
    for images, labels in batches(size):
        state, report = step(state, jnp.asarray(images, dtype), jnp.asarray(labels, jnp.int32))
        losses.append(float(report["metrics"]["loss"]["total"]) / BATCH)
    assert int(state.bad_total) == 0
    weights = {"params": state.params, "batch_stats": state.batch_stats}
    average = {"params": state.ema_params, "batch_stats": state.ema_batch_stats}
    # Not through to_torch, which exports float32.
    return losses, {"weights": timm_names(weights), "average": timm_names(average)}


def difference(
    ours: tuple[list[float], dict],
    theirs: tuple[list[float], dict],
    start: dict[str, torch.Tensor],
    exact: tuple[list[float], dict],
) -> dict[str, float]:
    """Largest relative differences of losses, parameters' changes, BN statistics and their EMA.

    "update" is relative to the parameter's own change from ``start``. What changes by less than a millionth of the
    largest change in double precision (``exact``) has no gradient by construction, and nothing to compare: biases in
    front of a normalisation, and attention's key biases, looked at apart from those of queries and values.

    Raises:
      NotFiniteError: one side holds NaN or infinity.
    """
    our_losses, their_losses = finite("our losses", ours[0]), finite("timm's losses", theirs[0])
    assert our_losses.shape == their_losses.shape
    errors = {"loss": largest(np.abs(our_losses - their_losses) / np.abs(their_losses))}
    a, b = ours[1]["weights"], theirs[1]["weights"]
    assert set(a) == set(b) == set(ours[1]["average"]) == set(theirs[1]["average"])
    moves = []  # (change in double precision, change on their side, difference of the two sides) of each parameter
    for key in b:
        if "running" in key:
            continue
        parts = 3 if key.endswith("qkv.bias") else 1
        sides = {
            "ours": a[key],
            "timm's": b[key],
            "timm's in float64": exact[1]["weights"][key],
            "the start": start[key],
        }
        arrays = (finite(f"{key}, {side}", value) for side, value in sides.items())
        for x, y, true, first in zip(*(np.split(array, parts) for array in arrays), strict=True):
            moves.append((np.abs(true - first).max(), np.abs(y - first).max(), np.abs(x - y).max()))
    least = 1e-6 * largest(true for true, _, _ in moves)
    errors["update"] = largest(error / change for true, change, error in moves if true > least)
    statistics = [relative_error(a[key], b[key]) for key in b if "running" in key]
    errors["statistics"] = largest(statistics) if statistics else 0.0
    errors["average"] = largest(relative_error(ours[1]["average"][k], v) for k, v in theirs[1]["average"].items())
    return errors


def compare(name: str, model: str | None, size: int, *, narrow: bool) -> dict[str, Any]:
    """A row: the differences after the recipe's steps, in float64 and, with ``narrow``, in float32.

    Args:
      name: of the recipe, a file of configs/.
      model: another than the recipe's; None: its own.
      size: pixels of a side.
      narrow: also in float32, and timm's float32 against its float64.

    Raises:
      NotFiniteError: one side holds NaN or infinity.
    """
    began = time.perf_counter()
    c = quiet(name, model)
    schedule = build.run_schedule(c, RUN)
    rates = [float(schedule(i)) for i in range(STEPS)]
    row: dict[str, Any] = {"recipe": name, "model": c.model.name, "size": size, "optimizer": c.optimizer.name}
    start = trained_weights(c.model.name, size).state_dict()
    with jax.enable_x64(True):
        theirs = timm_steps(name, c, size, rates, torch.float64)
        row["float64"] = difference(our_steps(c, size, jnp.float64), theirs, start, theirs)
    if narrow:
        short = timm_steps(name, c, size, rates, torch.float32)
        row["float32"] = difference(our_steps(c, size, jnp.float32), short, start, theirs)
        row["timm's own"] = difference(short, theirs, start, theirs)
    row["equal"] = largest(row["float64"].values()) < LIMIT
    row["seconds"] = round(time.perf_counter() - began, 1)
    return row
