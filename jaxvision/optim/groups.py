"""A learning rate per parameter: rules, layer-wise decay (Bao et al. 2021, BEiT, arXiv 2106.08254), frozen parts."""

from __future__ import annotations

import re
from typing import Any

import jax

from jaxvision.errors import UserError
from jaxvision.optim.rules import Rules, match_rules, parameter_names

_STEM = re.compile(r"(conv1|bn1|maxpool|conv_stem|stem|patch_embed|cls_token|dist_token|pos_embed)\b")
# Stage and block; a stage's downsampling belongs to its first block.
_BLOCK = re.compile(r"(?:layer|layers\.|stages\.|blocks\.)(\d+)(?:\.blocks)?(?:\.(\d+))?\b")
# What follows the last block counts with it.
_NECK = re.compile(r"(norm|bn2|conv_head)\b")


def layer_ids(names: list[str]) -> list[int]:
    """The depth of each parameter, from 0 for the stem to that of the classifier, as timm groups layers.

    Args:
      names: timm's, ``layer1.0.conv1.weight``; what follows a colon does not matter.
    """

    def place(name: str) -> tuple[int, int, int]:
        if _STEM.match(name):
            return (0, 0, 0)
        if block := _BLOCK.match(name):
            return (1, int(block[1]), int(block[2] or 0))
        return last if _NECK.match(name) else (2, 0, 0)

    last = max(((1, int(b[1]), int(b[2] or 0)) for name in names if (b := _BLOCK.match(name))), default=(1, 0, 0))
    places = [place(name) for name in names]
    order = {key: i for i, key in enumerate(sorted(set(places)))}
    return [order[key] for key in places]


def rate_multiples(params: Any, rules: Rules, *, decay: float = 1.0, freeze: str = "") -> Any:
    """A tree like ``params`` of multiples of the learning rate.

    Args:
      params: for their names.
      rules: see :func:`jaxvision.optim.rules.match_rules`.
      decay: of the rate from one block to the one before: the classifier has 1, the block before it ``decay``,
        the stem ``decay`` to the number of blocks plus 1.
      freeze: regex of whole names with rank ("layer1.0.conv1.weight:4d") whose multiple is 0; "" for none.

    Raises:
      UserError: the regex is none, or matches nothing or everything.
    """
    names = parameter_names(params)
    ids = layer_ids(names)
    values = [
        multiple * decay ** (max(ids) - i)
        for multiple, i in zip(jax.tree.leaves(match_rules(params, rules, "learning-rate rule")), ids, strict=True)
    ]
    if freeze:
        try:
            frozen = [re.fullmatch(freeze, name) is not None for name in names]
        except re.error as error:
            raise UserError(f"config.optimizer.freeze = {freeze!r} is no regular expression: {error}") from error
        if all(frozen) or not any(frozen):
            what = "every" if all(frozen) else "no"
            raise UserError(
                f"config.optimizer.freeze = {freeze!r} matches {what} parameter; names look like {names[0]}"
            )
        values = [0.0 if f else value for f, value in zip(frozen, values, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(params), values)
