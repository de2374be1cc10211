"""Image classification in JAX and Flax: models with timm's names and weights, and the published recipes."""

import importlib.metadata

from jaxvision.create import create_model, load_weights
from jaxvision.model import Model, compile, fuse, to_nnx, to_torch, value_and_grad
from jaxvision.models.registry import ModelSpec, list_models, model_spec
from jaxvision.ops.process import keep_memory
from jaxvision.preprocessing import preprocess
from jaxvision.resources import DISTRIBUTION
from jaxvision.save import save_pretrained
from jaxvision.timm_names import FUNCTIONS

__all__ = [
    "Model",
    "ModelSpec",
    "compile",
    "create_model",
    "fuse",
    "keep_memory",
    "list_models",
    "load_weights",
    "model_spec",
    "preprocess",
    "save_pretrained",
    "to_nnx",
    "to_torch",
    "value_and_grad",
]


def __getattr__(name: str) -> object:
    # Called for names that are not there only.
    hint = f": {FUNCTIONS[name]}" if name in FUNCTIONS else ""
    raise AttributeError(f"module 'jaxvision' has no attribute {name!r}{hint}")


try:  # pyproject.toml states it, and the installed distribution keeps it
    __version__ = importlib.metadata.version(DISTRIBUTION)
except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
    __version__ = "unknown"
