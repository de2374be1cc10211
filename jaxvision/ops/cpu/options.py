"""What makes programs fast on a CPU beside the forms of their operations: XLA's options, and memory that is kept."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import flax.linen as nn
import jax

# glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def compiler_options(module: nn.Module, *, train: bool = False) -> dict[str, str]:
    """For the ``compiler_options`` of the outermost ``jax.jit`` around a network or its train step; none on a GPU.

    On a CPU XLA hands products, convolutions and reductions to its library YNNPACK. In convolutional networks that is
    slower than XLA's own kernels, and undoes fusions; an empty list turns it off. Training keeps it for reductions,
    the sums of batch normalisation, and attention networks keep it whole. Loops take AVX-512's full width, where
    there is one; LLVM's choice is half of it. docs/performance.md has the figures.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {"xla_cpu_prefer_vector_width": "512"}
    if module.attends:
        return options
    return options | {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE" if train else ""}


def keep_memory() -> bool:
    """Lets this process keep memory that it frees, for programs that run on a CPU; True where that is possible.

    XLA allocates a program's temporary memory on every call and gives it back after it. The system hands it out again
    page by page, and in a virtual machine that can take longer than the arithmetic. Call it first: XLA's threads
    choose their allocator when JAX starts them. The process stays as large as its largest program. Other than glibc's
    allocator, this does nothing. The same for any program from outside, here and in PyTorch::

      GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=-1:glibc.malloc.arena_max=1
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 64 << 20}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])


def run_one_at_a_time() -> None:
    """Has JAX wait for each program on a CPU; for one process, before JAX starts, and without effect elsewhere.

    Otherwise JAX hands over the next train step before the last has ended, with temporary memory of its own: twice as
    much in all, and slower. Several processes keep it so: a lost one would be noticed in the wrong place.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def expected() -> bool:
    """Whether JAX will compute on the CPU, as far as can be said without starting it."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms == "cpu"
    return not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd", "/dev/accel0", "/dev/vfio/0"))
