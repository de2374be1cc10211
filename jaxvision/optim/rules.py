r"""Rules: regular expressions that give each parameter a value, such as a multiple of the weight decay.

A rule is matched against a parameter's whole name and rank, ``layer1.0.conv1.weight:4d``: the dotted key of timm's
state dict, a colon, and the number of dimensions.
"""

from __future__ import annotations

import re
from typing import Any

import jax

from jaxvision.errors import UserError

Rules = tuple[tuple[str, float], ...]

ALL: Rules = ((r".*", 1.0),)
KERNELS_ONLY: Rules = ((r".*:[2-9]d", 1.0), (r".*:[01]d", 0.0))  # neither norms nor biases


def decay_all_but(regex: str) -> Rules:
    r"""Rules that decay every parameter except those whose whole name matches ``regex``.

    Example::

      decay_all_but(r".*(:[01]d|pos_embed:3d)")  # no vectors, no position embedding
    """
    return ((regex, 0.0), (rf"(?!{regex}$).*", 1.0))


def parameter_names(params: Any) -> list[str]:
    """What rules are matched with, in tree order: dotted name (timm's key) and rank, ``layer1.0.conv1.weight:4d``."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [f"{'.'.join(entry.key for entry in path)}:{leaf.ndim}d" for path, leaf in leaves]


def match_rules(params: Any, rules: Rules, what: str = "weight-decay rule") -> Any:
    """A tree like ``params`` with, for each leaf, the value of the one rule whose regex matches its whole name.

    Raises:
      UserError: listing every parameter that matches no rule or several.
    """
    compiled = []
    for pattern, value in rules:
        try:
            compiled.append((re.compile(pattern), value))
        except re.error as error:
            raise UserError(f"{what} {pattern!r} is no regular expression: {error}") from error
    problems, values = [], []
    for name in parameter_names(params):
        matching = [(pattern.pattern, value) for pattern, value in compiled if pattern.fullmatch(name)]
        if len(matching) != 1:
            problems.append(f"{name}: matched by {[pattern for pattern, _ in matching] or 'no rule'}")
        values.append(matching[0][1] if matching else 0.0)
    if problems:
        shown = "\n  ".join(problems[:20]) + (f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise UserError(f"each parameter must match exactly one {what}, {len(problems)} do not:\n  {shown}")
    return jax.tree.unflatten(jax.tree.structure(params), values)


def regex_problem(regex: str) -> str | None:
    """What is wrong with a regular expression, or None."""
    try:
        re.compile(regex)
    except re.error as error:
        return f"{regex!r} is no regular expression: {error}"
    return None


def rules_problem(rules: Rules) -> str | None:
    """What is wrong with the regular expressions of rules, or None."""
    if not rules:
        return 'expected at least one (regular expression, number) pair; ((".*", 1.0),) gives every parameter 1'
    return next((problem for regex, _ in rules if (problem := regex_problem(regex))), None)
