"""Examples that cannot be used: damaged records, files that are no images, labels that are no classes."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Iterator, Sequence

import numpy as np

from jaxvision.data.decode import decode
from jaxvision.data.sources import Source


def problem(source: Source, index: int) -> str | None:
    """What is wrong with an example, which is read and decoded, or None."""
    try:
        raw, label = source.read(index)  # compares checksums
        if not isinstance(raw, np.ndarray):
            decode(raw)
        if not 0 <= label < source.num_classes:
            return f"{source.where(index)}: label {label} is outside 0..{source.num_classes - 1}"
    except Exception as error:  # whatever a damaged record raises is the finding
        return f"{source.where(index)}: {error}"
    return None


def problems(source: Source, indices: Sequence[int], threads: int | None = None) -> Iterator[str | None]:
    """:func:`problem` of each example, in order; ``threads`` of them at a time, by default one per core."""
    with concurrent.futures.ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        yield from pool.map(lambda i: problem(source, i), indices)
