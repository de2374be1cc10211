"""A prefix in front of a checkpoint's names that a trainer's own class added, whatever it is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from jaxvision.errors import UserError, listed
from jaxvision.models.classifier import Classifier
from jaxvision.models.renaming import State
from jaxvision.models.variables import flat_shapes

ENOUGH = 0.8  # of a network's parameters, to call a checkpoint its own
DEPTH = 3  # of prefixes, in parts: "model.net.backbone."


def remove(module: Classifier, state: State) -> State:
    """The arrays without the prefix that all names share, where the network's parameters are named behind it.

    Raises:
      UserError: most names, but not all, have such a prefix.
    """
    shared = Counter(prefix for name in state for prefix in _prefixes(name))
    candidates = [prefix for prefix, count in shared.items() if 2 * count >= len(state)]
    if not candidates:
        return state
    wanted = set(flat_shapes(module, 3))

    def found(arrays: State) -> set[str]:
        return wanted.intersection(module.to_timm_names(arrays)[0])

    if len(found(state)) >= ENOUGH * len(wanted):
        return state
    behind = {prefix: _behind(prefix, state) for prefix in candidates}
    prefix = max(candidates, key=lambda prefix: len(found(behind[prefix])))
    missing = sorted(wanted - found(behind[prefix]))
    if len(missing) > (1 - ENOUGH) * len(wanted):
        return state
    left_over = sorted(name for name in state if not name.startswith(prefix))
    if not left_over:
        return behind[prefix]
    also = (
        f" Still missing are then {listed(missing, 5)}: rename what was left over, if it is these." if missing else ""
    )
    raise UserError(
        f"{len(state)} keys, of which {shared[prefix]} have the prefix {prefix!r}; left over: {listed(left_over, 5)}. "
        f"Pass those with the prefix, without it: {{name.removeprefix({prefix!r}): value for name, value in "
        f"state_dict.items() if name.startswith({prefix!r})}}.{also}"
    )


def _prefixes(name: str) -> Iterable[str]:
    """The first parts of a name, each with the dot behind it."""
    parts = name.split(".")[:-1][:DEPTH]
    return (".".join(parts[: i + 1]) + "." for i in range(len(parts)))


def _behind(prefix: str, state: State) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
