"""How whole programs are compiled for a CPU: XLA's options, and where oneDNN is used."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jaxlib

from jaxvision.ops import program
from jaxvision.ops.cpu import onednn
from jaxvision.ops.program import Inference


@program.compiler_options.register("cpu")
def compiler_options(*, attends: bool, train: bool = False) -> dict[str, str]:
    """Loops of AVX-512's full width, and XLA's library YNNPACK only where it gains.

    Replaces: LLVM's vectors of half that width, and YNNPACK for matmuls, convolutions and reductions of all networks.
    In convolutional ones it is slower than XLA's own kernels, and undoes fusions; an empty list turns it off.
    Gain: inference of ResNet-50 1.03 times, of networks with grouped or depthwise convolutions more, up to 1.9 times
    (benchmarks/results/cpu_options_cpu2_2026-11-23.md, grouped_widths_cpu2_2026-11-22.md).
    Chosen: but for inference of a few images, see :func:`inference_with_onednn`. Training of convolutional networks
    keeps YNNPACK for reductions, the sums of batch normalisation, and attention networks keep it whole.
    """
    options = {"xla_cpu_prefer_vector_width": "512"}
    if attends:
        return options
    return options | {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE" if train else ""}


@program.prepare_train_step.register("cpu")
def train_step_with_onednn(step: Callable[..., Any]) -> Callable[..., Any]:
    """A train step whose convolutions with narrow groups are computed by oneDNN.

    Replaces: the block-diagonal convolutions of :mod:`jaxvision.ops.cpu.groups`.
    Gain: 7 % of SE-ResNeXt-50's train step, 2 % of ResNeSt-50's.
    Chosen: where oneDNN can be called, and in processes with one device; the program of several could not be
    partitioned at the call.
    """
    if jax.device_count() > 1 or not onednn.available():
        return step

    @functools.wraps(step)
    def with_onednn(*arguments: Any) -> Any:
        with onednn.enabled("training"):
            return step(*arguments)

    return with_onednn


@program.inference.register("cpu")
def inference_with_onednn(*, use_onednn: bool = True) -> Inference:
    """Programs for inference whose convolutions are computed by oneDNN.

    Replaces: the other implementations of a convolution; see :mod:`jaxvision.ops.cpu.onednn`.
    Gain: stated there.
    Chosen: where oneDNN can be called, unless the caller does not want it, and for more than a few images: of those
    YNNPACK's dense convolutions with packed weights are faster (benchmarks/results/small_batches_cpu2_2026-11-26.md).
    """
    if use_onednn and onednn.untested():
        warnings.warn(
            f"jaxlib {jaxlib.__version__} was not tested with oneDNN's convolutions, so XLA's own are used, which are "
            f"slower; tested are {', '.join(sorted(onednn.TESTED))}",
            stacklevel=2,
        )
    if not use_onednn or not onednn.available():
        return Inference(small_batch=8)
    return Inference(uses_onednn=True, small_batch=4, tracing=onednn.enabled, jit=onednn.jit)
