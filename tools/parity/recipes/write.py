"""Writes what the recipes' sources state to tests/recipes, as small JSON files.

    python tools/parity/recipes/write.py                    # everything; minutes, needs torch, timm and TensorFlow
    python tools/parity/recipes/write.py convnext swin      # only some sources
    python tools/parity/recipes/write.py --distributions    # only crops.json and policies.json

The values come from this folder's own formulas for the sources, or from the sources themselves where they can run here;
nothing of jaxvision is imported. Running it again writes the same bytes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from tools.parity.recipes.facts import Fact, rounded  # noqa: E402

SOURCES = (
    "big_vision",
    "convnext",
    "swin",
    "timm_train",
    "deit",
    "torchvision_references",
    "resnest",
    "tensorflow_tpu",
    "automl",
)
FOLDER = ROOT / "tests" / "recipes"


def text(value: Any, indent: int = 0) -> str:
    """JSON in which a list of numbers stands on one line."""
    pad = " " * (indent + 1)
    if isinstance(value, dict) and value:
        items = [f"{pad}{json.dumps(key)}: {text(item, indent + 1)}" for key, item in value.items()]
        if all(not isinstance(item, dict) for item in value.values()) and len(one_line := json.dumps(value)) < 400:
            return one_line
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "[\n" + ",\n".join(pad + text(item, indent + 1) for item in value) + "\n" + " " * indent + "]"
    return json.dumps(value)


def plain(fact: Fact) -> dict[str, Any]:
    """A fact as JSON."""
    return {"where": fact.where, "value": rounded(fact.value)}


def write(name: str, value: Any) -> None:
    """Writes one file and says how large it is."""
    path = FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(value) + "\n")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes", flush=True)


def recipe(module: Any, config: str, variants: Iterable[str]) -> dict[str, Any]:
    """Every fact of a config: under "*" what all variants share, under a variant what is its own."""
    found = {
        variant: {field: plain(fact) for field, fact in module.facts(config, variant).items()} for variant in variants
    }
    first = next(iter(found.values()))
    shared = {field: fact for field, fact in first.items() if all(other.get(field) == fact for other in found.values())}
    own = {variant: {f: fact for f, fact in facts.items() if f not in shared} for variant, facts in found.items()}
    return {"*": shared} | own


def main(argv: list[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", help=f"of {', '.join(SOURCES)}; default: all")
    parser.add_argument("--distributions", action="store_true", help="only the crops and the policies")
    options = parser.parse_args(argv)
    unknown = set(options.sources) - set(SOURCES)
    if unknown:
        parser.error(f"unknown sources {', '.join(sorted(unknown))}; known: {', '.join(SOURCES)}")
    modules = [importlib.import_module(f"tools.parity.recipes.{name}") for name in SOURCES]
    chosen = [
        module for module in modules if not options.sources or module.__name__.rpartition(".")[2] in options.sources
    ]
    if not options.distributions:
        for module in chosen:
            for config, variants in module.RECIPES.items():
                write(config, recipe(module, config, variants))
    if options.distributions or not options.sources:
        for kind in ("policies", "crops"):
            stated: dict[str, Any] = {}
            for module in modules:
                for name, fact in getattr(module, kind, dict)().items():
                    stated.setdefault(name, plain(fact))
            write(kind, stated)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
