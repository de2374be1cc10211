"""A model as compiled programs for inference, one for each shape of images."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

import flax.linen as nn
import jax

from jaxvision.errors import UserError
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

    It cannot be pickled, as its programs belong to the process: pickle the model, and compile it again. A program can
    be serialised with ``use_onednn=False`` only. ``jax.export.export(jax.jit(compiled))`` works in any case: it exports
    the fused model.

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
        self._warned_of_gathering = False

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits (N, num_classes), float32, of normalised float images (N, H, W, C)."""
        if isinstance(images, jax.core.Tracer):
            return self.model(images)
        weights, run = self._program(images)
        gathers = self.uses_onednn and images.shape[0] > self._how.small_batch
        if gathers and not self._warned_of_gathering and _is_sharded(images):
            self._warned_of_gathering = True
            warnings.warn(
                f"these images are sharded over {len(images.sharding.device_set)} devices, and a program with oneDNN "
                "gathers them: each device computes all of them. jaxvision.compile(model, use_onednn=False) keeps them "
                "sharded",
                stacklevel=2,
            )
        return run(*weights, images)

    def lower(self, images: jax.Array | jax.ShapeDtypeStruct) -> jax.stages.Lowered:
        """The program for images of this shape, to look at; what depends on the weights alone is not in it.

        Where ``uses_onednn``, JAX cannot serialise what it compiles to: its ``serialize`` ends with ``std::bad_alloc``.
        """
        weights, run = self._program(images)
        return run.lower(*weights, images)

    if not TYPE_CHECKING:  # type checkers would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            # Called for names that are not there only.
            raise AttributeError(
                f"a compiled model has no attribute {name!r}: compiled(images) gives logits, and besides it has lower, "
                "model and uses_onednn. Call the model itself for anything else"
            )

    def __reduce__(self) -> NoReturn:
        raise UserError(
            "a compiled model cannot be pickled or copied, its programs belong to this process: pickle the model that "
            "was compiled, or write it with jaxvision.save_pretrained, and call jaxvision.compile where it is used. To "
            "store a program, serialise jaxvision.compile(model, use_onednn=False).lower(images).compile()"
        )

    def _program(self, images: jax.Array | jax.ShapeDtypeStruct) -> tuple[tuple[list[jax.Array], ...], Callable]:
        """The jitted program for images of this shape, and its arguments before the images: the prepared weights."""
        key = getattr(images, "shape", None), getattr(images, "dtype", None)  # None of what is no array
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


def _is_sharded(images: jax.Array) -> bool:
    """Whether parts of the images are on different devices."""
    return isinstance(images, jax.Array) and not images.sharding.is_fully_replicated
