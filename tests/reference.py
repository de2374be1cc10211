"""The reference implementations that tests compare with: timm on torch."""

from __future__ import annotations

import torch

from tools.parity.models import nchw, random_images, relative_error, timm, timm_names, torch_gradients, trained_like

__all__ = ["nchw", "random_images", "relative_error", "timm", "timm_names", "torch_gradients", "trained_like"]

torch.set_num_threads(1)  # two workers share two cores, and its threads spin
