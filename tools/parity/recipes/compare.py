"""Compares what a source states with what jaxvision does, field by field."""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxvision.config import Config
from tools.parity.recipes import ours, policy
from tools.parity.recipes.draws import QUANTILES

FOLDER = Path(__file__).resolve().parents[3] / "tests" / "recipes"
DISTRIBUTIONS = ("crops", "policies")
EXACT = 2e-5  # relative; the sources' own values are float32 in places
SHARE = 0.012  # of probabilities, over 10,000 draws or more
DRAWN = ("share", "untouched", "whole image", "share of CutMix", "kept inside")  # what is such a probability
RATE = 4e-6  # of the peak: float32 over a whole run, and less than a step of the fastest schedule

Problem = str | None


@functools.cache
def fixtures() -> dict[str, dict[str, dict[str, Any]]]:
    """Facts of every recipe: by "config" or "config:variant", then by field."""
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        if path.stem not in DISTRIBUTIONS:
            data = json.loads(path.read_text())
            for variant in data:
                if variant != "*":
                    found[f"{path.stem}:{variant}" if variant else path.stem] = data["*"] | data[variant]
    return found


@functools.cache
def source_distributions(kind: str) -> dict[str, Any]:
    """The crops or the policies of the sources, by name."""
    return json.loads((FOLDER / f"{kind}.json").read_text())


def config_of(recipe: str) -> Config:
    """The typed config of "config:variant"."""
    name, _, variant = recipe.partition(":")
    return ours.load(name, variant)


def compare(source: Any, mine: Any, *place: str) -> Problem:
    """The first place where two nested values differ.

    Floats may differ by a rounding, distributions and shares by the noise of their draws; whole numbers are equal.

    Args:
      source: what the source states.
      mine: what jaxvision does.
      place: keys that led here.
    """
    where = f"{' '.join(place)}: " if place else ""
    if isinstance(source, dict) and isinstance(mine, dict):
        if "quantiles" in source:
            return distributions(source, mine, where)
        if set(source) != set(mine):
            return f"{where}source {sorted(source)}, jaxvision {sorted(mine)}"
        return next((p for key in source if (p := compare(source[key], mine[key], *place, key))), None)
    if isinstance(source, list) and isinstance(mine, list | tuple):
        if len(source) != len(mine):
            return f"{where}source {len(source)} values, jaxvision {len(mine)}"
        pairs = enumerate(zip(source, mine, strict=True))
        return next((p for i, (a, b) in pairs if (p := compare(a, b, *place, str(i)))), None)
    equal = source == mine
    if _is_number(source) and _is_number(mine):
        drawn = place and place[-1] in DRAWN
        if drawn:
            equal = abs(source - mine) <= SHARE
        elif not (isinstance(source, int) and isinstance(mine, int)):
            equal = math.isclose(source, mine, rel_tol=EXACT, abs_tol=1e-9)
    return None if equal else f"{where}source {short(source)}, jaxvision {short(mine)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def distributions(source: dict[str, Any], mine: dict[str, Any], where: str) -> Problem:
    """Whether two samples can be of one distribution: means, deviations, and quantiles by their probability."""
    spread = math.sqrt(1 / source["draws"] + 1 / mine["draws"])
    for name in ("mean", "deviation"):
        if not abs(source[name] - mine[name]) <= 5 * source["deviation"] * spread + 1e-9:
            return f"{where}{name}: source {source[name]:.4g}, jaxvision {mine[name]:.4g}"
    slack = 2e-3 * (source["quantiles"][-1] - source["quantiles"][0]) + 1e-9
    for probability, value in list(zip(QUANTILES, mine["quantiles"], strict=True))[1:-1]:
        # The quantiles of the source just below and above, so that gaps and steps of a distribution do no harm.
        below = [q for p, q in zip(QUANTILES, source["quantiles"], strict=True) if p <= probability - 2 * spread]
        above = [q for p, q in zip(QUANTILES, source["quantiles"], strict=True) if p >= probability + 2 * spread]
        low, high = (below or source["quantiles"][:1])[-1], (above or source["quantiles"][-1:])[0]
        if not low - slack <= value <= high + slack:
            return f"{where}{probability:.0%} quantile: source {low:.4g} to {high:.4g}, jaxvision {value:.4g}"
    return None


def sequences(source: dict[str, Any], mine: dict[str, Any]) -> Problem:
    """Whether two sequences over a run have the same values and means."""
    peak = max(value for _, value in source["values"])
    for (step, value), (_, other) in zip(source["values"], mine["values"], strict=True):
        if not abs(value - other) <= RATE * peak:
            return f"step {step}: source {value:.6g}, jaxvision {other:.6g}"
    for part, (value, other) in enumerate(zip(source["means"], mine["means"], strict=True)):
        if not abs(value - other) <= RATE * peak:
            return f"mean of part {part} of {len(source['means'])}: source {value:.6g}, jaxvision {other:.6g}"
    return None


def rates(source: list[float | None], mine: list[float]) -> Problem:
    """Stochastic depth of each block; None: the block has no shortcut, so that its rate is never used."""
    if len(source) != len(mine):
        return f"source {len(source)} blocks, jaxvision {len(mine)}"
    used = [(i, a, b) for i, (a, b) in enumerate(zip(source, mine, strict=True)) if a is not None]
    return next((f"block {i}: source {a:.4g}, jaxvision {b:.4g}" for i, a, b in used if abs(a - b) > 1e-6), None)


def averages(source: Any, mine: dict[str, Any]) -> Problem:
    """The decays of an EMA, compared by what is left of 1."""
    if not isinstance(source, dict):
        return f"source {source}, jaxvision decay {mine['decays'][-1][1]:.6g}"
    if source["every"] != mine["every"]:
        return f"source every {source['every']} steps, jaxvision every {mine['every']}"
    pairs = zip(source["decays"], mine["decays"], strict=True)
    wrong = ((u, a, b) for (u, a), (_, b) in pairs if abs(a - b) > 1e-3 * (1 - a) + 1e-9)
    return next((f"decay of update {u}: source {a:.6g}, jaxvision {b:.6g}" for u, a, b in wrong), None)


def chances(source: dict[str, float], mine: dict[str, float]) -> Problem:
    """Probabilities of outcomes, none of which may be missing or new."""
    for name in sorted(set(source) | set(mine), key=lambda name: -source.get(name, 1.0)):
        a, b = source.get(name, 0.0), mine.get(name, 0.0)
        if abs(a - b) > 6 * math.sqrt(max(a, 1e-4) / policy.DRAWS):
            return f"probability of {name!r}: source {a:.4f}, jaxvision {b:.4f}"
    return None


def one_policy(name: str, source: dict[str, Any], section: Any, spec: Any) -> Problem:
    """A source's policy with that of one part of a run."""
    mean = tuple(spec.mean)
    if "sub-policies" in source:
        found = policy.drawn(section, mean)
        fill = compare(source["fill"], list(found.fill), "fill")
        return fill or chances(policy.expand(source["sub-policies"]), policy.outcomes(section, mean))
    if "choices" in source:
        return _radius_aside(source, policy.three_choices(section, mean))
    kinds: dict[str, Callable[..., dict[str, Any]]] = {
        "timm": policy.randaugment,
        "tensorflow": policy.random_operations,
        "torchvision": policy.bins,
    }
    return compare(source, kinds[name.split()[0]](section, mean))


def _radius_aside(source: dict[str, Any], mine: dict[str, Any]) -> Problem:
    """The drawn ends of the radius come close to its bounds, but not up to a rounding."""
    source = copy.deepcopy(source)
    for side in (source, mine):
        blur = side["choices"]["GaussianBlur"]
        blur["radius"] = [round(value, 2) for value in blur["radius"]]
    return compare(source, mine)


def policies(source: list[str], config: Config, stated: dict[str, Any]) -> Problem:
    """The policies of all parts of a run."""
    if source == ["none"]:
        return None if not config.augment.policy else f"source none, jaxvision {config.augment.policy}"
    if config.data.policy:
        (name,) = source
        own = stated[name]["value"]
        geometry = {key: own[key] for key in ("fill", "rotation")}
        return compare(geometry, policy.host_geometry()) or chances(
            policy.expand(own["sub-policies"]), policy.host_outcomes()
        )
    parts = ours.policies(config)
    if len(parts) != len(source):
        return f"source {len(source)} stages, jaxvision {len(parts)}"
    for name, (section, spec) in zip(source, parts, strict=True):
        try:
            problem = one_policy(name, stated[name]["value"], section, spec)
        except (AssertionError, KeyError, AttributeError) as error:  # another kind of policy altogether
            problem = f"cannot be compared: {error}"
        if problem:
            return f"{name}: {problem}"
    return None


def crops(source: str, config: Config, stated: dict[str, Any]) -> Problem:
    """The crops of images of several sizes."""
    for size, statistics in stated[source]["value"].items():
        if problem := compare(statistics, ours.crop(config, size), size):
            return problem
    return None


SPECIAL: dict[str, Callable[[Any, Any], Problem]] = {
    "learning rate": sequences,
    "stochastic depth": rates,
    "ema": averages,
}


def difference(recipe: str, field: str, fact: dict[str, Any]) -> Problem:
    """How jaxvision's recipe differs from its source in one field; None: it does not."""
    config, source = config_of(recipe), fact["value"]
    if field == "policy":
        return policies(source, config, source_distributions("policies"))
    if field == "crop":
        return crops(source, config, source_distributions("crops"))
    mine = ours.FIELDS[field](config, source)
    return SPECIAL.get(field, compare)(source, mine)


def is_compared(recipe: str, field: str, fact: dict[str, Any]) -> bool:
    """Whether the source states a field that can be compared here."""
    return fact["value"] is not None and (field in ours.FIELDS or field in ("policy", "crop"))


def compared(recipe: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of a recipe that are compared with its source."""
    return ((field, fact) for field, fact in fixtures()[recipe].items() if is_compared(recipe, field, fact))


def short(value: Any) -> str:
    """A value in a table's cell."""
    if isinstance(value, float):
        return f"{value:.5g}"
    return str(value)
