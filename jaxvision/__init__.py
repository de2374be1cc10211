"""Image classification in JAX: ResNets, their modern rivals, and the recipes behind the numbers."""

from jaxvision.model import Model, create_model, fuse, load_weights, to_nnx, to_torch
from jaxvision.models.registry import ModelSpec, list_models, model_spec

__all__ = [
    "Model",
    "ModelSpec",
    "create_model",
    "fuse",
    "list_models",
    "load_weights",
    "model_spec",
    "to_nnx",
    "to_torch",
]
