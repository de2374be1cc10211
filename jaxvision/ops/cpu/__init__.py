"""Implementations that are faster than XLA's own choice on a CPU; importing this package registers them.

Nothing here is needed for a correct result: without this package everything runs, slower. Each module registers the
implementations of the module of the same name in :mod:`jaxvision.ops`; ``dense``, ``depthwise``, ``groups``,
``winograd`` and ``onednn`` are what ``convolution`` chooses from. Each docstring states what the implementation
replaces, what it gained, and when it is chosen. Gains without a file are in benchmarks/journal.md; all were measured on
two cores. A gain such as "0.80 of timm's best, before 0.68" is jaxvision's speed over that of timm's fastest variant.
"""

from jaxvision.ops.cpu import (  # noqa: F401  (each registers its implementations)
    attention,
    convolution,
    materialize,
    matmul,
    pooling,
    process,
    program,
    scale_shift,
)
