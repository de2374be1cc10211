"""timm on torch, the reference: models with weights that look trained, and their gradients."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch


def _declare_missing_operators() -> None:
    """Where torchvision is built for another torch, its operators are missing; timm needs two of their names only."""
    package = importlib.util.find_spec("torchvision")
    for library in sorted(Path(package.origin).parent.glob("_C*.so")) if package and package.origin else ():
        with contextlib.suppress(OSError):
            torch.ops.load_library(str(library))
            return  # a second declaration would end the process
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor d, Tensor s, float t) -> Tensor")


_declare_missing_operators()

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import timm

__all__ = [
    "CLASSES",
    "ill_conditioned",
    "nchw",
    "random_images",
    "timm",
    "torch",
    "torch_gradients",
    "trained_like",
]

CLASSES = 11
# A logit at which gates are far from 1/2 and pass on the rounding of their means, and float32 still works.
LARGE = 300.0


def trained_like(name: str, seed: int = 0, **kwargs: Any) -> torch.nn.Module:
    """A timm model whose every tensor is away from its initial value.

    Random BN statistics, scales (also layer scale and V2's response norm) and biases, position tables and tokens;
    linear layers large enough for attention to be far from uniform. Where more than 50 bottlenecks add up, each adds
    less, as after training: otherwise maps grow to 1e4 and float32 is no reference (timm's own ResNet-RS-420 is then
    21 % off its float64, against 6e-7).
    """
    torch.manual_seed(seed)
    model = timm.create_model(name, **kwargs)
    state = model.state_dict()
    last = re.compile(r"layer\d\.\d+\.bn3\.weight")
    deep = sum(last.fullmatch(key) is not None for key in state) > 50
    with torch.no_grad():
        for key, tensor in state.items():
            if deep and last.fullmatch(key):
                tensor.uniform_(0.1, 0.4)
            elif key.endswith("running_mean"):
                tensor.normal_(0, 0.2)
            elif key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif key.endswith(("pos_embed", "_token", "relative_position_bias_table")):
                tensor.normal_(0, 0.3)
            elif key.endswith("logit_scale"):
                tensor.uniform_(1.0, 5.0)  # on both sides of its clamp, log(100)
            elif tensor.ndim == 2:
                tensor.normal_(0, 1 / math.sqrt(tensor.shape[1]))
            elif tensor.ndim == 1 and key.endswith("weight"):
                tensor.uniform_(0.5, 1.0)
            elif tensor.ndim == 1 and tensor.is_floating_point():
                tensor.normal_(0, 0.1)
    return model


def ill_conditioned(reference: torch.nn.Module, x: np.ndarray, seed: int = 0) -> torch.nn.Module:
    """A copy whose convolutions and batch normalisations let maps grow, for images (N, H, W, C): it magnifies rounding.

    Normalisations have scales of 1 +- 0.1, convolutions a variance of gain / inputs. The gain moves from 2 in steps of
    5 %, up to 4 or down to 0.5, until the largest logit passes ``LARGE``: with gates far beyond it every rounding
    turns into another result.
    """
    torch.manual_seed(seed)
    reference = copy.deepcopy(reference).eval()
    state = reference.state_dict()
    kernels = [value for value in state.values() if value.ndim == 4]
    with torch.no_grad():
        for key in [key for key in state if key.endswith("running_mean")]:
            state[key.replace("running_mean", "weight")].normal_(1, 0.1)
        for kernel in kernels:
            kernel.normal_(0, math.sqrt(2 / kernel[0].numel()))
        small = bool(reference(nchw(x)).abs().max() < LARGE)
        for _ in range(14 if small else 28):
            for kernel in kernels:
                kernel.mul_(math.sqrt(1.05 if small else 1 / 1.05))
            if bool(reference(nchw(x)).abs().max() < LARGE) != small:  # NaN is for the caller to find
                break
    return reference


def random_images(size: tuple[int, int], seed: int, count: int = 2) -> np.ndarray:
    """Images (count, *size, 3), float32, standard normal."""
    return np.random.default_rng(seed).standard_normal((count, *size, 3), np.float32)


def nchw(images: np.ndarray) -> torch.Tensor:
    """Images (N, H, W, C) as a torch tensor (N, C, H, W)."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def torch_gradients(reference: torch.nn.Module, x: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Gradients of a cross-entropy of images (N, H, W, C): of the parameters by timm's names, and of the images."""
    reference.zero_grad()
    tx = nchw(x).requires_grad_(True)
    labels = torch.from_numpy(np.arange(len(x)) * 3 % CLASSES)
    torch.nn.functional.cross_entropy(reference(tx), labels).backward()
    grads = {key: parameter.grad.numpy() for key, parameter in reference.named_parameters()}
    return grads, tx.grad.permute(0, 2, 3, 1).numpy()
