"""Settings of the process that make programs faster or repeatable; they have to be made before JAX starts.

For that reason none of them asks JAX for its backend, which would start it.
"""

from __future__ import annotations

import os
from pathlib import Path

from jaxvision.ops.backend import operation


def prepare(*, deterministic: bool = False) -> None:
    """Makes the settings that programs of this process will profit from: :func:`keep_memory`, where a CPU runs them.

    Args:
      deterministic: whether programs must give the same bits each time; see :func:`repeat_bits`.
    """
    if deterministic:
        repeat_bits()
    if expects_cpu():
        keep_memory()


def keep_memory() -> bool:
    """Lets this process keep memory that it frees, for programs that run on a CPU.

    XLA allocates a program's temporary memory on every call and gives it back after it. The system hands it out again
    page by page, and in a virtual machine that can take longer than the arithmetic. Call this function first: XLA's
    threads choose their allocator when JAX starts them. The process stays as large as its largest program. Where the C
    library is not glibc, this does nothing. An environment variable does the same for any program, also for PyTorch's::

      GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=-1:glibc.malloc.arena_max=1

    Returns:
      Whether that was possible.
    """
    return keep_freed_memory.dispatch("cpu")()


def repeat_bits() -> None:
    """Has XLA use only GPU kernels that give the same bits each time, and choose them without timing them.

    The flag excludes kernels that add up in an order that varies (some of cuDNN's, scatters by atomic additions), and
    autotuning, which may choose other kernels in the next process. XLA cannot compile a select-and-scatter under it;
    no network of this package has one on a GPU. JAX's random numbers depend on their keys only, and the reduced
    precision of matrix products on a GPU is the same in each call: neither needs a setting. On a CPU, programs repeat
    their bits without it.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()


def run_one_at_a_time() -> None:
    """Has JAX wait for each program on a CPU; without effect on other backends. For a run of one process only.

    Otherwise JAX starts the next train step before the last has ended, with temporary memory of its own: twice as much
    in all, and slower. With several processes the loop would notice a lost process in the wrong place.
    """
    wait_for_programs.dispatch("cpu")()


def expects_cpu() -> bool:
    """Whether JAX will compute on a CPU, as far as can be said without starting it."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms == "cpu"
    return not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd", "/dev/accel0", "/dev/vfio/0"))


@operation
def keep_freed_memory() -> bool:
    """What :func:`keep_memory` does on a backend; whether it was possible."""
    return False


@operation
def wait_for_programs() -> None:
    """What :func:`run_one_at_a_time` does on a backend."""
