"""The reference implementations that tests compare with: timm on torch."""

from __future__ import annotations

import functools

import torch

from tools import parity
from tools.parity import nchw, random_images, relative_error, timm, timm_names, torch_gradients, trained_like

__all__ = ["nchw", "random_images", "relative_error", "timm", "timm_names", "torch_gradients", "trained_like"]

torch.set_num_threads(2)

# Loaded once per process: several tests look at the same network.
cached = functools.cache(parity.trained_like)
