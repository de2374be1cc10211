"""The reference implementations that tests compare with: timm on torch."""

from __future__ import annotations

import numpy as np
import torch

from tools.torch_reference import timm

torch.set_num_threads(2)


def trained_like(name: str, seed: int = 0, **kwargs) -> torch.nn.Module:
    """A timm model whose every tensor is away from its initial value: random BN statistics, non-zero last scales."""
    torch.manual_seed(seed)
    model = timm.create_model(name, **kwargs)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_mean"):
                tensor.normal_(0, 0.2)
            elif key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim == 1 and key.endswith("weight"):
                tensor.uniform_(0.5, 1.0)
            elif tensor.ndim == 1 and tensor.is_floating_point():
                tensor.normal_(0, 0.1)
    return model


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest magnitude of the expected array."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-12))
