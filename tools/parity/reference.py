"""timm, the reference, on a torch whose torchvision operators may be missing (CPU builds of another torch)."""

from __future__ import annotations

import contextlib
import warnings

import torch

# timm's import needs only the schemas of two operators that it never calls here.
for _name in ("nms", "qnms"):
    with contextlib.suppress(RuntimeError):  # the operators are there after all
        torch.library.define(f"torchvision::{_name}", "(Tensor d, Tensor s, float t) -> Tensor")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import timm

__all__ = ["timm", "torch"]
