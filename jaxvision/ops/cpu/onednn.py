"""Convolutions by oneDNN, PyTorch's library on CPUs, inside XLA's programs, fused with what follows them.

jaxlib for Linux on x86-64 contains oneDNN, and XLA runs it for the custom call below, though no pass of that build
makes one. Nothing documents the call, so it is used for the releases in ``TESTED`` only, and after its answers have
been compared with XLA's once in a process. Programs that contain the call cannot be serialised, so JAX's persistent
cache does not keep them.

Replaces: in inference all other implementations of a convolution in this folder, and XLA's loops for bias, residual sum
and ReLU or SiLU; in training the block-diagonal convolutions of narrow groups.
Gain: inference of ConvNeXt-T 1.80 of timm's best, Swin-T 1.46, DeiT-S 1.40, convolutional networks with batch
normalisation 0.96 to 1.03, before 0.65 to 0.84. Training, with other changes: SE-ResNeXt-50 0.86, before 0.60,
ResNeSt-50 0.81, before 0.55 (benchmarks/journal.md; newest figures: benchmarks/README.md).
Chosen: by :mod:`jaxvision.ops.cpu.program`, for float32: in ``jaxvision.compile`` for every convolution but those that
:func:`jaxvision.ops.cpu.convolution.fused_convolution_by_onednn` excepts, in training for narrow groups alone.

Source: the messages of XLA's ``xla/service/cpu/onednn_config.proto``.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import json
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax import lax

from jaxvision.ops.activations import Activation
from jaxvision.ops.convolution import Pads

TESTED = "0.10", "0.11"
"""Releases of jaxlib whose custom call was tried."""

Use = Literal["inference", "training"]
_FUSED: dict[Activation, dict[str, Any]] = {nn.relu: {"ops": ["RELU"]}, nn.silu: {"ops": ["SWISH"], "alpha": [1.0]}}
_ACTIVE: contextvars.ContextVar[Use | None] = contextvars.ContextVar("onednn", default=None)


@contextlib.contextmanager
def enabled(use: Use = "inference") -> Iterator[None]:
    """Lets convolutions that are traced inside call oneDNN where it is the fastest.

    In training these are the ones whose groups have few channels, with their gradients.
    """
    token = _ACTIVE.set(use)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def active(use: Use = "inference") -> bool:
    """Whether the code that calls is being traced inside :func:`enabled` for this use."""
    return _ACTIVE.get() == use


def jit(function: Callable[..., Any], compiler_options: Mapping[str, str | bool] | None = None) -> Callable[..., Any]:
    """``jax.jit`` for a program that calls oneDNN, without JAX's warning that its cache cannot keep the program."""
    warnings.filterwarnings("ignore", "Error writing .* compilation cache entry for 'jit_onednn_program'")

    def onednn_program(*arguments: Any) -> Any:
        return function(*arguments)

    return jax.jit(onednn_program, compiler_options=compiler_options)


@functools.cache
def available() -> bool:
    """Whether this process can call oneDNN: the system, jaxlib's release, and the answers to a small convolution."""
    if not _on_linux_cpu() or untested():
        return False
    try:
        right = _agrees_with_xla()
    except jax.errors.JaxRuntimeError:
        right = False
    if not right:
        warnings.warn(
            f"jaxlib {jaxlib.__version__} does not answer oneDNN's convolution as it should; XLA's own are used, which "
            "are slower",
            stacklevel=2,
        )
    return right


def untested() -> bool:
    """Whether it may work here, but was not tested with this jaxlib."""
    return _on_linux_cpu() and ".".join(jaxlib.__version__.split(".")[:2]) not in TESTED


def _on_linux_cpu() -> bool:
    return platform.system() == "Linux" and platform.machine() == "x86_64" and jax.default_backend() == "cpu"


def _agrees_with_xla() -> bool:
    x, weight, bias = (
        np.sin(np.arange(np.prod(s), dtype=np.float32)).reshape(s) for s in [(1, 5, 7, 4), (3, 3, 2, 6), (6,)]
    )
    pads = (0, 1), (2, 1)

    def both(x: jax.Array, weight: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array]:
        plain = lax.conv_general_dilated(
            x, weight, (2, 2), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
        )
        ours = convolution(x, weight, bias, plain, nn.relu, stride=2, pads=pads, groups=2)
        return ours, nn.relu(2 * plain + bias)

    ours, plain = jit(both)(x, weight, bias)
    return bool(jnp.allclose(ours, plain, atol=1e-5))


def convolution(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    add: jax.Array | None,
    activation: Activation | None,
    *,
    stride: int,
    pads: Pads,
    groups: int,
) -> jax.Array:
    """``activation(convolution(x, weight) + bias + add)`` as one call of oneDNN; has no derivative.

    Args:
      x: (N, H, W, I), float32.
      weight: (KH, KW, I / groups, O).
      bias: (O,).
      add: (N, H', W', O).
      activation: of any kind; ReLU and SiLU are fused.
      stride: of both axes.
      pads: zeros before and after height and width.
      groups: of channels.

    Returns:
      (N, H', W', O), float32.
    """
    kernel = weight.shape[:2]
    height, width = ((x.shape[i + 1] + sum(pads[i]) - kernel[i]) // stride + 1 for i in (0, 1))
    ops, alpha, operands, aliases = [], [], [x, weight], {}
    if bias is not None:
        ops.append("BIAS")
        operands.append(bias)
    if add is not None:
        # The result is stored in place of it: the library adds to what is there. XLA copies it first if it has
        # other users.
        ops.append("SUM")
        aliases = {len(operands): 0}
        operands.append(add)
    if fused := _FUSED.get(activation):
        ops += fused["ops"]
        alpha += fused.get("alpha", [])
    maps = {"dims": 4, "data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
    layout = {"spatial_dims": [0, 1], "input_feature_dim": 2, "output_feature_dim": 3, "shape": weight.shape}
    window = {
        "size": kernel,
        "pad_left": [before for before, _ in pads],
        "pad_right": [after for _, after in pads],
        "strides": [stride, stride],
        "window_dilations": [1, 1],
    }
    config = {
        "dims": 4,
        "input": maps,
        "kernel": {"dims": 4, "filter": layout},
        "output": maps,
        "window": window,
        "fusions": {"ops": ops, "alpha": alpha},
        "feature_groups": groups,
    }
    call = jax.ffi.ffi_call(
        "__onednn$convolution",
        jax.ShapeDtypeStruct((x.shape[0], height, width, weight.shape[3]), x.dtype),
        custom_call_api_version=2,  # without it XLA would look for a function of its typed interface
        legacy_backend_config=json.dumps({"onednn_conv_config": config}),
        input_output_aliases=aliases,
    )
    y = call(*operands)
    return y if activation is None or fused else activation(y)
