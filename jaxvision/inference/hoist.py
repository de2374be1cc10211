"""Splits a program in two: what depends on the weights alone, computed once, and what every call computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Literal, Var


def hoist(
    program: Callable[[Any, jax.Array], jax.Array], variables: Any, images: jax.Array | jax.ShapeDtypeStruct
) -> tuple[Callable[[Any], list[jax.Array]], Callable[[list[jax.Array], jax.Array], jax.Array]]:
    """``prepare`` and ``run`` with ``run(prepare(variables), images)`` equal to ``program(variables, images)``.

    ``prepare`` computes the operations on weights whose results are at most twice as large as their inputs: transposed
    and transformed kernels, casts, tables of position biases; not a bias broadcast to a map, nor a split matrix.

    Args:
      program: what JAX can trace: a function of a tree of arrays and one array that returns an array.
      variables: the weights, a tree of arrays.
      images: an array of the shape that ``run`` will take, or its shape and dtype.
    """
    closed = jax.make_jaxpr(program)(variables, images)
    jaxpr = closed.jaxpr
    constants = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    *weights, image = jaxpr.invars
    of_weights = set(weights)
    early: list[JaxprEqn] = []
    late: list[JaxprEqn] = []
    for equation in jaxpr.eqns:
        inputs = _variables(equation.invars)
        hoisted = of_weights.intersection(inputs) and of_weights.issuperset(v for v in inputs if v not in constants)
        small = sum(v.aval.size for v in equation.outvars) <= 2 * sum(v.aval.size for v in inputs)
        # XLA for GPUs joins matmuls with the parts of one matrix (q, k and v), but only where it sees the split.
        if hoisted and small and not equation.effects and equation.primitive.name != "split":
            early.append(equation)
            of_weights.update(equation.outvars)
        else:
            late.append(equation)
    needed = [v for equation in late for v in _variables(equation.invars)] + _variables(jaxpr.outvars)
    handed = list(dict.fromkeys(v for v in needed if v in of_weights))

    def prepare(variables: Any) -> list[jax.Array]:
        return _evaluated(early, constants | dict(zip(weights, jax.tree.leaves(variables), strict=True)), handed)

    def run(prepared: list[jax.Array], images: jax.Array) -> jax.Array:
        known = constants | dict(zip(handed, prepared, strict=True)) | {image: images}
        return _evaluated(late, known, jaxpr.outvars)[0]

    return prepare, run


def _variables(atoms: Sequence[Var | Literal]) -> list[Var]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def _evaluated(equations: Sequence[JaxprEqn], known: dict[Var, Any], wanted: Sequence[Var | Literal]) -> list[Any]:
    """The values of ``wanted`` after ``equations``; their results are added to the ``known`` values."""

    def read(atom: Var | Literal) -> Any:
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in equations:
        parameters = equation.primitive.get_bind_params(equation.params)
        with equation.ctx.manager:
            results = equation.primitive.bind(*map(read, equation.invars), **parameters)
        results = results if equation.primitive.multiple_results else [results]
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in wanted]
