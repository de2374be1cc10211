"""What torch, torchvision and timm compute themselves: crops, erasing, mixing, losses, parameters of a model."""

from __future__ import annotations

import functools
import inspect
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from tools.parity.recipes.draws import (
    DRAWS,
    LOSS_CASES,
    SOURCE_SIZES,
    crop_statistics,
    erasing_statistics,
    loss_inputs,
    mixing_statistics,
)
from tools.parity.reference import timm, torch


def torchvision_crops(scale: tuple[float, float], ratio: tuple[float, float]) -> dict[str, Any]:
    """Statistics of torchvision's own ``RandomResizedCrop.get_params`` for each size of image."""
    from torchvision.transforms import RandomResizedCrop

    found = {}
    for height, width in SOURCE_SIZES:
        torch.manual_seed(0)
        image = torch.empty(1, height, width)
        boxes = [RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(DRAWS)]
        found[f"{height}x{width}"] = crop_statistics(np.array(boxes), height, width)
    return found


def timm_flip() -> float:
    """The default probability of a horizontal flip in timm's ``create_transform``."""
    return inspect.signature(timm.data.create_transform).parameters["hflip"].default


@functools.cache
def parameters(name: str) -> list[tuple[str, int, bool]]:
    """Name, number of dimensions and "belongs to a normalisation layer" of every parameter of timm's model."""
    with torch.device("meta"):
        model = timm.create_model(name)
    modules = dict(model.named_modules())
    norms = tuple(kind for kind in vars(torch.nn).values() if isinstance(kind, type) and "Norm" in kind.__name__)
    return [
        (key, value.ndim, isinstance(modules[key.rpartition(".")[0]], norms)) for key, value in model.named_parameters()
    ]


def fold(named: dict[str, float]) -> dict[str, float]:
    """Fewer names: a number that differs between blocks becomes ``*`` wherever all these blocks have the same value.

    Args:
      named: value by "name:dimensions".
    """
    result: dict[str, float] = {}
    rest = {(*key.rpartition(":")[0].split("."), key.rpartition(":")[2]): value for key, value in named.items()}
    for kept in range(8):  # numbers that stay as they are, counted from the end
        groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for parts in rest:
            numbers = [i for i, part in enumerate(parts) if part.isdigit()]
            starred = set(numbers[: len(numbers) - kept])
            groups.setdefault(tuple("*" if i in starred else part for i, part in enumerate(parts)), []).append(parts)
        for members in groups.values():
            if len(values := {rest[parts] for parts in members}) == 1:
                columns = [set(column) for column in zip(*members, strict=True)]
                *name, rank = (column.pop() if len(column) == 1 else "*" for column in columns)
                result[".".join(name) + ":" + rank] = values.pop()
                for parts in members:
                    del rest[parts]
        if not rest:
            return dict(sorted(result.items()))
    raise AssertionError(f"parameters with the same name: {rest}")


def decay_groups(name: str, decayed: Callable[[str, int, bool], bool]) -> dict[str, float]:
    """1 for decayed and 0 for other parameters, by folded name.

    Args:
      name: timm's name of the model.
      decayed: the source's rule, of a parameter's name, dimensions and "belongs to a normalisation layer".
    """
    return fold({f"{key}:{ndim}d": float(decayed(key, ndim, norm)) for key, ndim, norm in parameters(name)})


def linspace(rate: float, depth: int) -> list[float]:
    """torch's own ``linspace`` from 0, in which most repositories write stochastic depth."""
    return torch.linspace(0, rate, depth).tolist()


def depth_of_timm(name: str, rate: float) -> list[float]:
    """The rates that timm's installed version gives the blocks of a model, for comparison with a formula."""
    with torch.device("meta"):
        model = timm.create_model(name, drop_path_rate=rate)
    found: dict[str, float] = {}
    for key, module in model.named_modules():
        if type(module).__name__ == "DropPath":
            found.setdefault(key.rpartition(".")[0], module.drop_prob)
    return list(found.values())


@functools.cache
def erasing(
    probability: float, area: tuple[float, float], aspect: tuple[float, float], count: int, size: int
) -> dict[str, Any]:
    """Statistics of timm's own ``RandomErasing`` on images of ``size``: boxes are those of its constant fill."""
    from timm.data.random_erasing import RandomErasing

    def shapes(probability: float, size: int) -> np.ndarray:
        """Of 10,000 images: share, rows and columns that are erased."""
        random.seed(0)
        torch.manual_seed(0)
        erase = RandomErasing(probability, *area, *aspect, mode="const", max_count=count, device="cpu")
        found = []
        for _ in range(10_000):
            image = torch.ones(1, size, size)
            erase(image)
            gone = (image[0] == 0).numpy()
            found.append((gone.mean(), gone.any(1).sum(), gone.any(0).sum()))
        return np.array(found)

    return erasing_statistics(shapes(probability, 16), shapes(1.0, size), count)


@functools.cache
def timm_mixing(
    mixup: float, cutmix: float, size: int, probability: float = 1.0, switch: float = 0.5
) -> dict[str, Any]:
    """Statistics of timm's own ``Mixup`` for a batch: choice, and the label's own weight under each of the two."""
    from timm.data.mixup import Mixup, cutmix_bbox_and_lam

    np.random.seed(0)
    mix = Mixup(mixup, cutmix, prob=probability, switch_prob=switch, mode="batch", label_smoothing=0.0)
    weights: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(DRAWS // 5):
        lam, use_cutmix = mix._params_per_batch()
        if use_cutmix:
            _, lam = cutmix_bbox_and_lam((1, 3, size, size), lam, correct_lam=True)
        weights[bool(use_cutmix)].append(lam)
    return mixing_statistics(np.array(weights[False]), np.array(weights[True]))


def losses(loss: Callable[[Any, Any, Any, float], Any]) -> dict[str, float]:
    """The source's loss for one label and for mixed labels, on ``loss_inputs``.

    Args:
      loss: of logits, labels, partners' labels (tensors) and the labels' weight; the mean over the batch.
    """
    logits, labels, partners = (torch.as_tensor(value) for value in loss_inputs())
    return {what: float(loss(logits.double(), labels, partners, lam)) for lam, what in LOSS_CASES}


def timm_targets(labels: Any, partners: Any, lam: float, smoothing: float, classes: int = 10) -> Any:
    """timm's smoothed and mixed targets, by its own functions."""
    from timm.data.mixup import one_hot

    off = smoothing / classes
    on = 1.0 - smoothing + off
    return lam * one_hot(labels, classes, on, off) + (1 - lam) * one_hot(partners, classes, on, off)


def timm_scheduler(scheduler: Callable[[Any], Any], peak: float) -> Any:
    """A timm scheduler on an optimizer with one parameter of learning rate ``peak``."""
    return scheduler(torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=peak))


def cosine_epochs(peak: float, minimum: float, start: float, warmup: int, epochs: int, total: int) -> list[float]:
    """timm's own ``CosineLRScheduler`` without a prefix, at each of ``total`` epochs."""
    from timm.scheduler.cosine_lr import CosineLRScheduler

    make = functools.partial(
        CosineLRScheduler, t_initial=epochs, lr_min=minimum, warmup_lr_init=start, warmup_t=warmup, cycle_limit=1
    )
    scheduler = timm_scheduler(make, peak)
    assert math.isclose(scheduler._get_lr(0)[0], start)
    return [scheduler._get_lr(epoch)[0] for epoch in range(total)]
