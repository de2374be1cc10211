"""A table of a network's stages: outputs, parameters and multiply-adds."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.models.classifier import Classifier
from jaxvision.models.variables import Variables
from jaxvision.ops.backend import as_xla_computes


def summarise(module: Classifier, variables: Variables, shape: tuple[int, ...], title: str) -> str:
    """A line for each stage and for each layer outside the stages, in the order of the computation.

    Multiply-adds are those of convolutions and matrix products, as the papers count them.

    Args:
      module: the network.
      variables: its parameters and statistics, or their shapes.
      shape: of the images, (N, H, W, C).
      title: the first line.
    """
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    with as_xla_computes():  # what a CPU computes in another way has other operations
        program = jax.make_jaxpr(functools.partial(module.apply, train=False))(variables, images)
    layers = list(variables["params"])
    rows: dict[str, list[Any]] = {}
    for path, equation, repeats in _equations(program.jaxpr):
        name = next((entry for entry in path if entry in layers), None)
        if name is not None:
            row = rows.setdefault(_stage(name, module.map_names), [None, 0])
            row[0] = equation.outvars[0].aval.shape
            row[1] += repeats * _multiply_adds(equation)
    sizes: dict[str, int] = {}
    for name, tree in variables["params"].items():
        stage = _stage(name, module.map_names)
        sizes[stage] = sizes.get(stage, 0) + sum(leaf.size for leaf in jax.tree.leaves(tree))
    lines = [("layers", "output", "parameters", "multiply-adds")]
    for stage in [*(stage for stage in sizes if stage not in rows), *rows]:  # tables of positions first
        output, count = rows.get(stage, [None, 0])
        lines.append((stage, "x".join(map(str, output or ())), f"{sizes.get(stage, 0):,}", f"{count:,}"))
    total = sum(count for _, count in rows.values())
    lines.append(("total", "", f"{sum(sizes.values()):,}", f"{total:,}"))
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    text = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in lines]
    rule = "-" * len(text[0])
    return "\n".join([title, rule, text[0], rule, *text[1:-1], rule, text[-1]])


def _stage(name: str, stages: list[str]) -> str:
    """The stage that a layer belongs to, or the first part of its name."""
    return next((stage for stage in stages if name == stage or name.startswith(f"{stage}.")), name.partition(".")[0])


def _equations(jaxpr: Any, path: tuple[str, ...] = (), repeats: int = 1) -> Iterator[tuple[tuple[str, ...], Any, int]]:
    """Every operation with the modules that it is in, and how often it runs."""
    for equation in jaxpr.eqns:
        own = (*path, *str(equation.source_info.name_stack).split("/"))
        inner = [p for p in equation.params.values() if hasattr(p, "jaxpr") or hasattr(p, "eqns")]
        if not inner:
            yield own, equation, repeats
        for program in inner:
            times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
            yield from _equations(getattr(program, "jaxpr", program), own, repeats * times)


def _multiply_adds(equation: Any) -> int:
    output = equation.outvars[0].aval.size
    if equation.primitive.name == "conv_general_dilated":
        kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
        return output * math.prod(kernel) // kernel[numbers.rhs_spec[0]]
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return output * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
    return 0
