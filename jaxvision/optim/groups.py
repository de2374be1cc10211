"""A learning rate for each parameter: by rules for names, by layer (layer-wise decay), and 0 where it is frozen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax

from jaxvision.errors import UserError
from jaxvision.models.classifier import Classifier, LayerGroups
from jaxvision.optim.rules import Rules, match_rules, parameter_names

# What counts as a layer for layer-wise decay: each block, as in timm, or the groups of the paper's code.
LAYER_GROUPS = ("timm", "paper")


def layer_ids(names: Sequence[str], groups: LayerGroups) -> list[int]:
    """The layer of each parameter, counted from 0, the stem, to the classifier.

    Args:
      names: parameter names, "layer1.0.conv1.weight"; a rank behind them, ":4d", does not matter.
      groups: of the network's family.
    """
    stem, block, neck = (re.compile(rf"(?:{pattern})\b") for pattern in (groups.stem, groups.block, groups.neck))

    def numbers(match: re.Match[str]) -> tuple[int, ...]:
        found = tuple(int(number or 0) for number in match.groups())
        if groups.merged:
            stage, index = found
            count = groups.merged[stage]
            found = (stage, index // count if count else 0)
        return (1, *found)

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


def choose_groups(kind: str, family: type[Classifier]) -> LayerGroups:
    """A family's layers, one of :data:`LAYER_GROUPS`.

    Raises:
      UserError: "paper" for a family whose paper's code has no layers of its own.
    """
    if kind == "timm":
        return family.layer_groups
    if family.paper_layer_groups is None:
        raise UserError(
            f'config.optimizer.layer_groups = "paper": {family.__name__} has timm\'s groups of layers only, set it to '
            '"timm"'
        )
    return family.paper_layer_groups


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
