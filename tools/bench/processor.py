"""The processor's name for a result file: figures of a CPU mean little without it."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor's name, and its family and model where the system tells: a virtual machine may hide the name."""
    try:
        lines = (line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        found = {key.strip(): value.strip() for key, value in lines}
    except OSError:
        return platform.processor() or platform.machine()
    if "model name" not in found:  # not an x86
        return platform.machine()
    return f"{found['model name']}, family {found.get('cpu family')}, model {found.get('model')}"
