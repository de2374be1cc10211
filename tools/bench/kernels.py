"""Where the time of a program on a GPU goes, kernel by kernel, by the profilers of JAX and PyTorch."""

from __future__ import annotations

import collections
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

LONGEST = 40  # kernels that are listed by name
# What a kernel does, by the first pattern that its name contains.
KINDS = {
    "attention": r"flash|fmha|sdpa|attention",
    "convolution": r"conv|cudnn|xmma_(fprop|dgrad|wgrad)|implicit|dgrad|wgrad|fprop|depthwise|dw_",
    "matrix multiplication": r"gemm|cutlass|nvjet|cublas|wgmma|matmul|_mm_|splitK",
    "copy": r"memcpy|memset|copy|transpose|nchwToNhwc|nhwcToNchw",
    "reduction": r"reduce|_red_|triton_per|norm",
}


def kind(name: str) -> str:
    """What a kernel does, as far as its name tells: a key of :data:`KINDS`, or "elementwise"."""
    return next((k for k, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), "elementwise")


def table(events: Iterable[tuple[str, float]], calls: int, wall: float) -> dict[str, Any]:
    """Kernels by name and by kind, microseconds of one call, and the time in which the device did nothing.

    Args:
      events: (name, microseconds) of every kernel of ``calls`` calls.
      wall: microseconds of one call by the clock, without the profiler.
    """
    totals: dict[str, list[float]] = collections.defaultdict(lambda: [0, 0.0])
    kinds: collections.Counter[str] = collections.Counter()
    for name, duration in events:
        totals[name][0] += 1
        totals[name][1] += duration / calls
        kinds[kind(name)] += duration / calls
    busy = sum(kinds.values())
    ordered = sorted(totals.items(), key=lambda item: -item[1][1])
    return {
        "wall_us": round(wall, 1), "busy_us": round(busy, 1), "kernels": sum(n for n, _ in totals.values()) / calls,
        "kinds_us": {name: round(value, 1) for name, value in kinds.most_common()},
        "longest": [
            {"name": name[:160], "count": count / calls, "us": round(us, 1)} for name, (count, us) in ordered[:LONGEST]
        ],
    }  # fmt: skip


def jax_kernels(run: Callable[[int], float], calls: int) -> dict[str, Any]:
    """:func:`table` of a JAX program; ``run(calls)`` returns the seconds that the calls took."""
    import jax

    wall = run(calls) / calls
    with tempfile.TemporaryDirectory() as temporary:
        with jax.profiler.trace(temporary):
            run(calls)
        (path,) = Path(temporary).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
        # Each stream of the device is a line; other lines repeat the same time by module or by operation.
        lines = [line for plane in data.planes if plane.name.startswith("/device:GPU") for line in plane.lines]
        events = [
            (event.name, event.duration_ns / 1e3)
            for line in lines
            if line.name.startswith("Stream")
            for event in line.events
        ]
        if not events:
            raise RuntimeError(f"the profile has no kernels; its lines: {[line.name for line in lines]}")
    return table(events, calls, 1e6 * wall)


def torch_kernels(run: Callable[[int], float], calls: int) -> dict[str, Any]:
    """:func:`table` of a PyTorch program; ``run(calls)`` returns the seconds that the calls took."""
    import torch

    wall = run(calls) / calls
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run(calls)
    events = [
        (event.name, event.device_time_total)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]
    return table(events, calls, 1e6 * wall)
