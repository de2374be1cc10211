"""A learning rate for each parameter: by rules for names, by layer (layer-wise decay), and 0 where it is frozen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax

from jaxvision.errors import UserError
from jaxvision.models.classifier import LayerGroups
from jaxvision.optim.rules import Rules, match_rules, parameter_names


def layer_ids(names: Sequence[str], groups: LayerGroups) -> list[int]:
    """The layer of each parameter, counted from 0, the stem, to the classifier, as timm groups them.

    Args:
      names: parameter names, "layer1.0.conv1.weight"; a rank behind them, ":4d", does not matter.
      groups: of the network's family.
    """
    stem, block, neck = (re.compile(rf"(?:{pattern})\b") for pattern in groups)

    def numbers(match: re.Match[str]) -> tuple[int, ...]:
        return (1, *(int(number or 0) for number in match.groups()))

    blocks = [numbers(match) for name in names if (match := block.match(name))]
    last = max(blocks, default=(1,))

    def place(name: str) -> tuple[int, ...]:
        if stem.match(name):
            return (0,)
        if match := block.match(name):
            return numbers(match)
        return last if groups.neck and neck.match(name) else (2,)

    places = [place(name) for name in names]
    order = {key: i for i, key in enumerate(sorted(set(places)))}
    return [order[key] for key in places]


def rate_multiples(
    params: Any, rules: Rules, *, groups: LayerGroups | None = None, decay: float = 1.0, freeze: str = ""
) -> Any:
    """For each parameter, what the learning rate is multiplied by: a tree like ``params``.

    Args:
      params: nested dicts; only the names matter.
      rules: see :func:`jaxvision.optim.rules.match_rules`.
      groups: the layers of the network's family, for ``decay``.
      decay: factor of the learning rate from one layer to the layer before it: the classifier has 1, the last block
        ``decay``, the stem ``decay`` to the number of blocks plus 1 (Bao et al. 2021, BEiT, arXiv 2106.08254).
      freeze: a regular expression for whole names with rank, "layer1.0.conv1.weight:4d", of the parameters that keep
        their values; "" for none.

    Raises:
      UserError: ``freeze`` is not a regular expression, or matches no parameter or every one.
    """
    multiples = jax.tree.leaves(match_rules(params, rules, "learning-rate rule"))
    names = parameter_names(params)
    if decay != 1.0:
        if groups is None:
            raise ValueError("decay needs groups, the layer_groups of the network's family")
        ids = layer_ids(names, groups)
        multiples = [multiple * decay ** (max(ids) - i) for multiple, i in zip(multiples, ids, strict=True)]
    if freeze:
        try:
            frozen = [re.fullmatch(freeze, name) is not None for name in names]
        except re.error as error:
            raise UserError(f"config.optimizer.freeze = {freeze!r} is not a regular expression: {error}") from error
        if all(frozen) or not any(frozen):
            what = "every" if all(frozen) else "no"
            raise UserError(
                f"config.optimizer.freeze = {freeze!r} matches {what} parameter; write a regular expression for whole "
                f"names such as {names[0]}"
            )
        multiples = [0.0 if f else multiple for f, multiple in zip(frozen, multiples, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(params), multiples)
