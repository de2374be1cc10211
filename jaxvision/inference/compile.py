"""A model as compiled programs for inference, one for each shape of images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import flax.linen as nn
import jax

from jaxvision.inference.hoist import hoist
from jaxvision.models.images import check_images
from jaxvision.models.variables import Variables
from jaxvision.ops import program


class FusedModel(Protocol):
    """What is compiled: a network for inference with its variables; see :class:`jaxvision.Model`."""

    module: nn.Module
    variables: Variables
    in_chans: int

    def __call__(self, images: jax.Array) -> jax.Array: ...


M = TypeVar("M", bound=FusedModel)


class Compiled(Generic[M]):
    """A model as one program for each shape of images, for inference; made by :func:`jaxvision.compile`.

    Attributes:
      model: the fused model.
      uses_onednn: whether oneDNN computes its convolutions, of more than a few images.
    """

    def __init__(self, model: M, *, compiler_options: Mapping[str, str | bool], use_onednn: bool) -> None:
        self.model = model
        self._how = program.inference(use_onednn=use_onednn)
        self.uses_onednn = self._how.uses_onednn
        self._options = dict(compiler_options)
        self._programs: dict[Any, tuple[tuple[list[jax.Array], ...], Callable]] = {}

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits (N, num_classes), float32, of normalised float images (N, H, W, C)."""
        if isinstance(images, jax.core.Tracer):
            return self.model(images)
        weights, run = self._program(images)
        return run(*weights, images)

    def lower(self, images: jax.Array | jax.ShapeDtypeStruct) -> jax.stages.Lowered:
        """The program for images of this shape, to look at; what depends on the weights alone is not in it."""
        weights, run = self._program(images)
        return run.lower(*weights, images)

    def _program(self, images: jax.Array | jax.ShapeDtypeStruct) -> tuple[tuple[list[jax.Array], ...], Callable]:
        """The jitted program for images of this shape, and its arguments before the images: the prepared weights."""
        key = images.shape, images.dtype
        if key not in self._programs:
            check_images(images, self.model.in_chans)
            apply, variables = functools.partial(self.model.module.apply, train=False), self.model.variables
            few = images.shape[0] <= self._how.small_batch
            how = program.Inference() if few else self._how
            with how.tracing():
                prepare, run = hoist(apply, variables, jax.ShapeDtypeStruct(*key))
            weights = jax.jit(prepare)(variables)
            if few:
                jitted = how.jit(lambda images: run(weights, images), compiler_options=self._options)
                self._programs[key] = (), jitted
            else:
                options = program.compiler_options(attends=self.model.module.attends) | self._options
                self._programs[key] = (weights,), how.jit(run, compiler_options=options)
        return self._programs[key]
