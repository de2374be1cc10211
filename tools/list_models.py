"""Lists models, or published weights, with their sizes and accuracies.

  python tools/list_models.py                                   # every model
  python tools/list_models.py "convnext*" "swin*"               # those that match a pattern
  python tools/list_models.py "convnext_tiny*" --pretrained     # the weights that are published of them

GMACs are billions of multiply-adds of one image of so many pixels a side. The next columns are those of the default
weights: their pixels a side, classes, and ImageNet top-1 as published.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.shared import command_line


def rows(patterns: Sequence[str], *, pretrained: bool) -> list[dict[str, Any]]:
    """What is known of each model or of each of its weights.

    Raises:
      UserError: no name matches.
    """
    import jaxvision
    from jaxvision.errors import UserError

    names = jaxvision.list_models(patterns or "*", pretrained=pretrained)
    if not names:
        kind = "published weights match" if pretrained else "model matches"
        hint = f'"*{patterns[0]}*" finds a part of a name; `jaxvision models` lists all'
        raise UserError(f"no {kind} {', '.join(patterns)}: {hint} {len(jaxvision.list_models())}")
    specs = [(name, jaxvision.model_spec(name)) for name in names]
    return [
        {
            "name": name, "parameters_m": spec.params_m, "gmacs": spec.gmacs, "gmacs_at": spec.gmacs_at,
            "image_size": spec.input_size, "classes": spec.num_classes, "top1": spec.top1,
        }
        for name, spec in specs
    ]  # fmt: skip


def table(found: Sequence[dict[str, Any]]) -> str:
    """The rows in columns."""
    titles = ("name", "params, M", "GMACs @ px", "px", "classes", "top-1, %")
    cells = [titles] + [
        (
            row["name"], f"{row['parameters_m']:.1f}", f"{row['gmacs']:.2f} @ {row['gmacs_at']}",
            str(row["image_size"]), str(row["classes"]), "" if row["top1"] is None else f"{row['top1']:.1f}",
        )
        for row in found
    ]  # fmt: skip
    widths = [max(len(line[i]) for line in cells) for i in range(len(titles))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in cells
    )


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help='shell patterns: "resnet*"')
    parser.add_argument("--pretrained", action="store_true", help="published weights, each by its name")
    parser.add_argument("--json", action="store_true", help="print JSON")

    def action(args: Any) -> int:
        found = rows(args.patterns, pretrained=args.pretrained)
        print(json.dumps(found, indent=1) if args.json else table(found))
        return 0

    return command_line.run(action, parser.parse_args(argv))


if __name__ == "__main__":
    command_line.start(main)
