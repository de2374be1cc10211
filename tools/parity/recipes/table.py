"""The page docs/recipe_sources.md: what each recipe's source states, where, and whether jaxvision does the same.

"equal" means that tests/test_recipe_sources.py passes; a difference has to be stated in differences.py.
"""

from __future__ import annotations

import re
from typing import Any

from tools.parity.recipes import compare, differences

HEAD = """# What the recipes' sources state

Each recipe's values, read in its source and compared with what jaxvision does. This page is written by `make docs` from
`tests/recipes` and `tools/parity/recipes`, which also has the formulas.

- The values of the sources were computed from their own formulas, written down independently of jaxvision, or by the
  sources themselves where they run here (timm, torch, torchvision, TensorFlow's operations):
  `python tools/parity/recipes/write.py`. The last column has the repository, commit, file and lines of each value.
- jaxvision's side is the code that trains, run on the recipe's config. `tests/test_recipe_sources.py` compares both:
  learning rates at some fifty steps and as means over each fortieth of the run; crops, erasing and mixing as
  distributions of thousands of draws; policies by every operation, its probability and its argument; losses on random
  logits.
- "equal" means that this test passes. Where a recipe differs on purpose, both values and the reason are given, and the
  test fails once there is no difference any more.
- "not stated": the source does not say; the recipe's header says what was chosen.
- Learning rates are compared for the source's number of steps per epoch.
- "replicas" is the number of parts into which a batch was split, by devices or by accumulated steps; batch
  normalisation, mixing and repeated augmentation treat each part separately.
"""


def depth(value: list[float | None]) -> str:
    """Stochastic depth in a few words."""
    rates = [rate for rate in value if rate is not None]
    if min(rates) == max(rates):
        return f"{rates[0]:g} in {len(value)} blocks" if rates[0] else "none"
    return f"{rates[0]:.3g} to {rates[-1]:.3g} over {len(value)} blocks"


def sequence(value: dict[str, Any]) -> str:
    """A learning rate in a few words."""
    first, last = value["values"][0][1], value["values"][-1][1]
    peak = max(rate for _, rate in value["values"])
    return f"{first:.4g}, up to {peak:.4g}, {last:.4g} at the end of {value['epochs']:.5g} epochs"


def parameters(value: dict[str, float]) -> str:
    """The kinds of parameters that are not decayed."""
    kept = sorted({re.sub(r".*[.*]", "", name.rpartition(":")[0]) for name, factor in value.items() if not factor})
    count = sum(bool(factor) for factor in value.values())
    return f"{count} of {len(value)} names; not decayed: {', '.join(kept)}"


def layers(value: dict[str, float]) -> str:
    """Layer-wise rates in a few words."""
    return f"{min(value.values()):.4g} to {max(value.values()):g} in {len(set(value.values()))} groups"


def average(value: dict[str, Any]) -> str:
    """An EMA in a few words."""
    first, last = value["decays"][0][1], value["decays"][-1][1]
    often = "" if value["every"] == 1 else f" every {value['every']} steps"
    return f"decay {last:.6g}{often}" + (f", {first:.3g} at first" if first != last else "")


def mixing(value: dict[str, Any]) -> str:
    """Mixup and CutMix in a few words."""
    parts = [
        f"{kind} (own weight {value[kind]['mean']:.3f} on average)" for kind in ("Mixup", "CutMix") if kind in value
    ]
    return f"{' or '.join(parts)}, with the {value['partner']} image, drawn per {value['drawn per']}"


def erasing(value: dict[str, Any]) -> str:
    """Random erasing in a few words."""
    return f"{1 - value['untouched']:.3g} of the images, {value['area']['mean']:.3g} of their area"


def drop_block(value: dict[str, Any]) -> str:
    """DropBlock in a few words."""
    rates = value["rates by epoch"]
    return f"{value['places']} masks, {value['masks']}, rate {rates[0]:.2g} to {rates[-1]:.2g}"


def plain(value: Any) -> str:
    """Any other value."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(dict.fromkeys(plain(item) for item in value))
    return compare.short(value)


WORDS = {
    "stochastic depth": depth,
    "learning rate": sequence,
    "decayed parameters": parameters,
    "layer rates": layers,
    "ema": average,
    "mixing": mixing,
    "erasing": erasing,
    "drop block": drop_block,
}


def words(field: str, value: Any) -> str:
    """A value in a few words."""
    if value is None:
        return "not stated"
    return plain(value) if isinstance(value, str) or field not in WORDS else WORDS[field](value)


def verdict(recipe: str, field: str, fact: dict[str, Any]) -> str:
    """Whether jaxvision does the same, or why not."""
    if not compare.is_compared(recipe, field, fact):
        return "-" if fact["value"] is None else "not compared"
    reason = differences.reason(recipe, field)
    return "equal" if reason is None else f"{compare.difference(recipe, field, fact)} ({reason})"


def merged(texts: dict[str, str]) -> str:
    """The texts of all variants, each once."""
    groups: dict[str, list[str]] = {}
    for variant, text in texts.items():
        groups.setdefault(text, []).append(variant)
    if len(groups) == 1:
        return next(iter(groups))
    return "<br>".join(f"{', '.join(variants)}: {text}" for text, variants in groups.items())


def section(config: str, facts: dict[str, dict[str, Any]]) -> list[str]:
    """The table of one config.

    Args:
      config: its name.
      facts: by variant, then by field.
    """
    rows = [f"\n## configs/{config}.py\n", "| field | source | jaxvision | file and lines |", "|---|---|---|---|"]
    for field in next(iter(facts.values())):
        cells = []
        for text in (
            lambda variant, fact: words(field, fact["value"]),  # noqa: B023
            lambda variant, fact: verdict(f"{config}:{variant}" if variant else config, field, fact),  # noqa: B023
            # A colon before folders that have the names of ours, so that they do not read as files of this repository.
            lambda variant, fact: re.sub(r"(?<![\w./:-])(configs|docs|tools|tests)/", r":\1/", fact["where"]),
        ):
            cells.append(merged({variant: text(variant, found[field]) for variant, found in facts.items()}))
        rows.append("| " + " | ".join([field, *cells]) + " |")
    return rows


def page() -> str:
    """The whole page."""
    configs: dict[str, dict[str, dict[str, Any]]] = {}
    for recipe, facts in compare.fixtures().items():
        config, _, variant = recipe.partition(":")
        configs.setdefault(config, {})[variant] = facts
    lines = [HEAD.rstrip()]
    for config, facts in configs.items():
        lines += section(config, facts)
    return "\n".join(lines) + "\n"
