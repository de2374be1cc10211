"""The reference implementations that tests compare with: timm on torch."""

from __future__ import annotations

import contextlib
import functools
from typing import Any
from unittest import mock

import jax
import torch
from family_cases import fewer_blocks

import jaxvision
from jaxvision.models.registry import build_module
from jaxvision.models.variables import init_variables
from tools.parity.compare_models import timm_names
from tools.parity.equality import relative_error
from tools.parity.reference import nchw, random_images, timm, torch_gradients, trained_like

__all__ = [
    "nchw",
    "random_images",
    "relative_error",
    "shallow",
    "timm",
    "timm_names",
    "torch_gradients",
    "trained_like",
]

torch.set_num_threads(1)  # two workers share two cores, and its threads spin


@contextlib.contextmanager
def _efficientnets_of_depth(multiplier: float):
    """timm's functions take no depth; the decoder of their tables does."""
    from timm.models import efficientnet

    decode = functools.partial(efficientnet.decode_arch_def, depth_multiplier=multiplier)
    with mock.patch.object(efficientnet, "decode_arch_def", lambda table, depth=1.0, **rest: decode(table, **rest)):
        yield


def shallow(name: str, *, num_classes: int, size: Any = None, seed: int = 0, **fields: Any) -> tuple[Any, Any]:
    """timm's model of a name and ours with the same trained-like weights, both with fewer blocks.

    See :data:`family_cases.FEWER_BLOCKS`. The number of blocks of each name is in
    test_every_name_has_timms_tensors_and_the_published_count; ``make parity`` compares all of every name.
    """
    full = build_module(name, num_classes=num_classes, image_size=size)
    module = fewer_blocks(full).clone(**fields)
    context = contextlib.nullcontext()
    if hasattr(full, "stages"):
        theirs, context = {}, _efficientnets_of_depth(module.depth)
    elif hasattr(full, "depth"):
        theirs = {"depth": module.depth}
    else:
        theirs = {"layers" if hasattr(full, "stem_pool") else "depths": module.depths}
    if size is not None and full.image_size:
        theirs = theirs | {"img_size": size}
    with context:
        reference = trained_like(name, seed, num_classes=num_classes, **theirs)
    variables = init_variables(module, jax.random.key(0))
    model = jaxvision.Model(**variables, module=module, spec=jaxvision.model_spec(name), in_chans=3)
    return reference, jaxvision.load_weights(model, {k: v.clone() for k, v in reference.state_dict().items()})
