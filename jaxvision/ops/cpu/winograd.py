"""3x3 convolutions with 36 multiplications where the definition has 144: Winograd's F(4x4, 3x3)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxvision.ops.convolution import Pads
from jaxvision.ops.cpu.materialize import materialize
from jaxvision.ops.cpu.matmul import transposed_matmul

SIDE = 4
"""Pixels of an output tile's side; the input tile has two more."""

# The points of the interpolation, besides infinity: the usual 0, 1, -1, 2, -2 lose five times as many digits.
_POINTS = np.array([0.0, 0.75, -0.75, 1.5, -1.5])


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices that transform input (6, 6), kernel (6, 3) and output (4, 6): Toom and Cook's, for correlations."""
    last = np.eye(6)[5:]
    others = [np.delete(_POINTS, i) for i in range(5)]
    scale = np.array([np.prod(point - rest) for point, rest in zip(_POINTS, others, strict=True)])
    # Row i holds the coefficients, lowest first, of the polynomial that is zero at all points but the i-th.
    of_input = [[*np.poly(rest)[::-1], 0.0] for rest in others] + [np.poly(_POINTS)[::-1]]
    of_kernel = np.concatenate([np.vander(_POINTS, 3, increasing=True) / scale[:, None], last[:, 3:]])
    of_output = np.concatenate([np.vander(_POINTS, SIDE, increasing=True), last[:, 2:]]).T
    return np.array(of_input), of_kernel, of_output


_INPUT, _KERNEL, _OUTPUT = _matrices()
_KERNELS = np.kron(_KERNEL, _KERNEL)  # for both axes at once: 36 numbers from 9


def _combined(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """For each row of ``matrix`` the sum of ``parts`` times the row's factors."""
    # Terms with the factor zero, a third of them, are left out.
    terms = [[part if f == 1 else float(f) * part for f, part in zip(row, parts, strict=True) if f] for row in matrix]
    return [functools.reduce(operator.add, row) for row in terms]


def is_worthwhile(x: jax.Array, weight: jax.Array, stride: int, groups: int, *, channels: int) -> bool:
    """Whether Winograd's algorithm is the fastest for a convolution.

    There has to be enough arithmetic to save, and a tile for every eight channels whose kernels are to be transformed.

    Args:
      x: (N, H, W, I).
      weight: (O, KH, KW, I / groups).
      stride, groups: of the convolution.
      channels: the fewest that input and output of a group may have.
    """
    if weight.shape[1:3] != (3, 3) or stride != 1 or x.dtype != jnp.float32:
        return False
    (n, height, width, _), inputs, outputs = x.shape, weight.shape[3], weight.shape[0] // groups
    if not all(isinstance(size, int) for size in (n, height, width)):
        return False  # exported with a symbolic size, for which nothing can be chosen
    tiles = n * -(-height // SIDE) * -(-width // SIDE)
    wide = channels <= min(inputs, outputs) and max(inputs, outputs) <= 8 * tiles
    return wide and min(height, width) >= 5 and height * width * inputs * outputs >= 3_000_000


def kernels(weight: jax.Array) -> jax.Array:
    """The transformed kernels (6, 6, O, I) of ``weight`` (O, 3, 3, I)."""
    outputs, _, _, inputs = weight.shape
    flat = jnp.asarray(_KERNELS, weight.dtype) @ weight.transpose(1, 2, 0, 3).reshape(9, -1)
    return flat.reshape(6, 6, outputs, inputs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def winograd(x: jax.Array, weight: jax.Array, transformed: jax.Array, pads: Pads) -> jax.Array:
    """A 3x3 convolution with stride 1 as 36 matmuls over the 4x4 tiles of its output; its gradients likewise.

    A quarter of the arithmetic for more traffic in memory. In float32 the result is off by some 3e-6 of the largest
    value, that of the direct sum by 3e-7.

    Replaces: XLA's convolution, and in ``jaxvision.compile`` oneDNN's.
    Gain: with the gradients of 1x1 and grouped convolutions, training ResNet-50-D 0.80 of timm's best, before 0.68
    (benchmarks/journal.md).
    Chosen: where :func:`is_worthwhile` says so, with 64 channels or more against XLA, 128 against oneDNN.

    Args:
      x: (N, H, W, I).
      weight: (O, 3, 3, I); only the gradients use it.
      transformed: (6, 6, O, I), :func:`kernels` of the weight, which can be computed once for many calls.
      pads: zeros before and after height and width.

    Returns:
      (N, H', W', O), of ``x``'s dtype.

    Source: Lavin and Gray 2015, arXiv 1509.09308, section 4.3, with other points.
    """
    return _by_tiles(x, transformed, pads, 1)


def _by_tiles(x: jax.Array, transformed: jax.Array, pads: Pads, axis: int) -> jax.Array:
    """The convolution; ``axis`` of each transformed kernel, 0 or 1, is contracted with the channels of ``x``."""
    height, width = (x.shape[i + 1] + sum(pads[i]) - 2 for i in (0, 1))
    lines = []
    for tiles, of_kernels in zip(_tiles(x, pads), transformed, strict=True):
        products = [
            lax.dot_general(tile, kernel, (((3,), (axis,)), ((), ())))
            for tile, kernel in zip(tiles, of_kernels, strict=True)
        ]
        # Materialized: otherwise each of a tile's 16 outputs would read all 36 products.
        lines.append(materialize(jnp.stack(_combined(_OUTPUT, products), 3)))
    out = jnp.stack(_combined(_OUTPUT, lines), 2)
    down, across = out.shape[1], out.shape[3]
    return out.reshape(x.shape[0], SIDE * down, SIDE * across, -1)[:, :height, :width]


def _tiles(x: jax.Array, pads: Pads) -> list[list[jax.Array]]:
    """The transformed 6x6 tiles of the padded input: for each of the 36 pixels a map (N, H' / 4, W' / 4, I)."""
    height, width = (x.shape[i + 1] + sum(pads[i]) - 2 for i in (0, 1))
    down, across = -(-height // SIDE), -(-width // SIDE)  # the last tiles may reach beyond the map
    (top, bottom), (left, right) = pads
    border = (
        (0, 0, 0), (top, bottom + SIDE * down - height, 0), (left, right + SIDE * across - width, 0), (0, 0, 0)
    )  # fmt: skip
    x = lax.pad(x, jnp.zeros((), x.dtype), border)  # negative for a gradient where the padding was more than 2
    reach_down, reach_across = SIDE * (down - 1) + 1, SIDE * (across - 1) + 1
    # Materialized: as fast, but otherwise each of the 36 maps is a sum of up to 16 terms, and compiles twice as long.
    lines = [materialize(line) for line in _combined(_INPUT, [x[:, i : i + reach_down : SIDE] for i in range(6)])]
    return [_combined(_INPUT, [line[:, :, j : j + reach_across : SIDE] for j in range(6)]) for line in lines]


def _forward(
    x: jax.Array, weight: jax.Array, transformed: jax.Array, pads: Pads
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return winograd(x, weight, transformed, pads), (x, weight)


def _backward(pads: Pads, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    x, weight = saved
    g = materialize(g)  # otherwise every line of tiles would compute it again
    around = tuple((2 - before, 2 - after) for before, after in pads)
    # The matmuls contract the kernels' other axis: transposed kernels would be gathered 36 times.
    dx = _by_tiles(g, kernels(weight[:, ::-1, ::-1]), around, 0)
    return dx, _weight_gradient(x, g, pads), None


def _weight_gradient(x: jax.Array, g: jax.Array, pads: Pads) -> jax.Array:
    """dw (O, 3, 3, I): the transposed transforms, and matmuls that sum over all tiles."""
    g = jnp.pad(g, ((0, 0), (0, -g.shape[1] % SIDE), (0, -g.shape[2] % SIDE), (0, 0)))
    lines = [materialize(line) for line in _combined(_OUTPUT.T, [g[:, i::SIDE] for i in range(SIDE)])]
    of_g = [_combined(_OUTPUT.T, [line[:, :, j::SIDE] for j in range(SIDE)]) for line in lines]
    pairs = [pair for rows in zip(_tiles(x, pads), of_g, strict=True) for pair in zip(*rows, strict=True)]
    sums = jnp.stack([transposed_matmul(x, g).T for x, g in pairs])
    outputs, inputs = sums.shape[1:]
    flat = jnp.asarray(_KERNELS.T, x.dtype) @ sums.reshape(36, -1)
    return flat.reshape(3, 3, outputs, inputs).transpose(2, 0, 1, 3)


winograd.defvjp(_forward, _backward)
