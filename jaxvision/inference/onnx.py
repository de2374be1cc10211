"""A model as an ONNX file, by jax2onnx."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError, require
from jaxvision.inference.compile import FusedModel
from jaxvision.inference.export import ImageInput, inference_function
from jaxvision.ops.backend import as_onnx_converts

OPSET = 21  # ONNX Runtime reads it since 1.18
INPUT, OUTPUT = "images", "logits"


def require_packages() -> None:
    """Checks that what converts and checks is there.

    Raises:
      UserError: it is not; the message names the packages and the command that installs them.
    """
    require("export", "jax2onnx", "onnx", "onnxruntime")


def to_onnx(model: FusedModel, images: ImageInput) -> bytes:
    """The content of an ONNX file, with the weights inside; its input is :data:`INPUT`, its output :data:`OUTPUT`.

    Args:
      model: fused, best; see :func:`jaxvision.fuse`. It computes in float32.
      images: what the program takes.

    Raises:
      UserError: jax2onnx cannot convert an operation, which the message names; the model computes in another dtype; or
        packages are missing.
    """
    require_packages()
    import jax2onnx
    import onnx
    from jax import export

    if model.module.dtype != jnp.float32:
        raise UserError("ONNX Runtime has few kernels of bfloat16 for a CPU: export the model in float32")
    shape = export.symbolic_shape(", ".join(map(str, images.shape)))
    with as_onnx_converts(), _quiet(), _functions_kept():
        try:
            converted = jax2onnx.to_onnx(
                inference_function(model, images), [jax.ShapeDtypeStruct(shape, images.dtype)], opset=OPSET,
                model_name="jaxvision", input_names=[INPUT], output_names=[OUTPUT],
            )  # fmt: skip
        except Exception as error:
            raise UserError(
                f"jax2onnx cannot convert {_operation(error.__traceback__)}: {error}. A newer jax2onnx may; otherwise "
                "export StableHLO, or register an implementation of the operation in jaxvision/ops/onnx"
            ) from error
    onnx.checker.check_model(converted)
    return converted.SerializeToString()


def onnx_runtime(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """The program of a file's content, run by ONNX Runtime on the CPU: images to logits."""
    require_packages()
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _operation(traceback: TracebackType | None) -> str:
    """The operation of JAX that was being converted when an error was raised."""
    found = "the model"
    while traceback is not None:
        equation: Any = traceback.tb_frame.f_locals.get("eqn")
        if hasattr(equation, "primitive"):
            shapes = ", ".join(str(atom.aval) for atom in equation.invars)
            found = f"the operation {equation.primitive.name} of {shapes}"
        traceback = traceback.tb_next
    return found


@contextlib.contextmanager
def _functions_kept() -> Iterator[None]:
    """Gives JAX its functions back: jax2onnx 0.13 leaves one of its own in the place of ``jnp.cumsum``."""
    before = [(module, dict(vars(module))) for module in (jax, jnp, jax.lax, jax.nn, jax.random)]
    try:
        yield
    finally:
        for module, functions in before:
            for name, function in functions.items():
                if getattr(module, name) is not function:
                    setattr(module, name, function)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings about plugins and shapes that do not concern these models: hundreds of lines."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
