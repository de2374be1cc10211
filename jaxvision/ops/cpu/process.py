"""Memory and scheduling of a process that computes on a CPU."""

from __future__ import annotations

import ctypes

import jax

from jaxvision.ops.process import keep_freed_memory, wait_for_programs

# glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


@keep_freed_memory.register("cpu")
def keep_memory_by_mallopt() -> bool:
    """Makes glibc's allocator keep what is freed; False for other allocators.

    Replaces: returning each program's temporary memory to the system after every call.
    Gain: with the other changes of its day ResNet-50's inference went from 17.0 to 32.9 images/s; timm's eager mode
    gains as much from it (benchmarks/journal.md).
    Chosen: by ``jaxvision.main`` where it expects a CPU, and by who calls ``jaxvision.keep_memory``.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 64 << 20}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])


@wait_for_programs.register("cpu")
def dispatch_synchronously() -> None:
    """Turns off JAX's asynchronous dispatch on CPUs.

    Replaces: starting the next train step before the last has ended.
    Gain: half of the memory that training takes.
    Chosen: for runs of one process.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
