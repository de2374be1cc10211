"""Table and pictures of a result of ``tools/bench/main.py``.

  python tools/bench/plot.py benchmarks/results/bench_run_cpu2_2026-11-24.json              # beside the result
  python tools/bench/plot.py RESULT.json --out FOLDER
  python tools/bench/plot.py RESULT.json --tradeoff docs/images/speed_accuracy.png          # that picture only

Two pictures: STEM_tradeoff.png, speed against accuracy with jaxvision's and timm's point of each model joined by a
line, and STEM_ratio.png, jaxvision's speed over timm's per model with its 95 % interval.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench.table import MODES, bench_table
from tools.shared import command_line

# The compared variants of a side, as the table calls them.
PAIRS = {
    "best": ("best / best: the fastest variant of each", "tab:blue"),
    "default": ("default / default: jax.jit and timm eager", "tab:gray"),
}
COLORS = {"jaxvision": "tab:blue", "timm": "tab:orange"}
# The area of a bubble in square points: of no memory, and per GB.
AREA, AREA_PER_GB = 15.0, 80.0
LABEL_SIZE = 8  # points
DPI = 110
Box = tuple[float, float, float, float]  # in pixels: left, bottom, right, top


def plot_all(document: dict[str, Any], stem: Path) -> list[Path]:
    """Writes ``STEM_tradeoff.png`` and ``STEM_ratio.png``; returns what was written."""
    written = []
    for name, make in (("tradeoff", tradeoff_figure), ("ratio", ratio_figure)):
        path = stem.with_name(f"{stem.name}_{name}.png")
        _save(make(document), path)
        written.append(path)
    return written


def _save(figure: Any, path: Path) -> None:
    from jaxvision.files import replace_file

    replace_file(path, lambda part: figure.savefig(part, dpi=DPI, format="png"))


def tradeoff_figure(document: dict[str, Any]) -> Any:
    """Speed against accuracy, one panel per mode; the area of a point is the peak memory."""
    modes = [m for m in MODES if any(s["mode"] == m for s in document["summary"])]
    figure, panels = _figure(7 * len(modes), 5.4, len(modes))
    for mode, panel in zip(modes, panels, strict=True):
        rows = [s for s in document["summary"] if s["mode"] == mode and s["top1"]]
        for s in rows:
            sides = [side for side in COLORS if side in s]
            speeds = [_speed(s, side) for side in sides]
            panel.plot(speeds, [s["top1"]] * len(sides), color="gray", linewidth=1, zorder=1)
        for side, color in COLORS.items():
            shown = [s for s in rows if side in s]
            panel.scatter(
                [_speed(s, side) for s in shown], [s["top1"] for s in shown], [_area(s[side]["memory"]) for s in shown],
                color=color, alpha=0.6, label=side, zorder=2,
            )  # fmt: skip
        _speed_axis(panel)
        panel.set(xlabel="images per second", ylabel="ImageNet top-1 %", title=MODES[mode])
        panel.margins(0.1, 0.08)
        panel.grid(alpha=0.3)
    handles = [
        panels[0].scatter([], [], AREA + AREA_PER_GB, color=color, alpha=0.6, label=side)
        for side, color in COLORS.items()
    ] + [
        panels[0].scatter([], [], AREA + AREA_PER_GB * gb, color="lightgray", label=f"{gb} GB of memory")
        for gb in (1, 4)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    figure.suptitle(
        f"the fastest variant of each side on {_machine(document)}, {document['dtype']}, {document['date']}"
    )
    # Labels are placed on the finished layout, in points, which the layout must not change any more.
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for mode, panel in zip(modes, panels, strict=True):
        _label(panel, [s for s in document["summary"] if s["mode"] == mode and s["top1"]])
    return figure


def ratio_figure(document: dict[str, Any]) -> Any:
    """jaxvision's images per second over timm's per model, with the 95 % intervals; all panels have the same scale."""
    modes = [m for m in MODES if any(s["mode"] == m for s in document["summary"])]
    figure, panels = _figure(7 * len(modes), 4.8, len(modes), sharex=True)
    for mode, panel in zip(modes, panels, strict=True):
        rows = [s for s in document["summary"] if s["mode"] == mode and "best" in s]
        places = range(len(rows))
        for offset, (kind, (label, color)) in enumerate(PAIRS.items()):
            shown = [(i, s[kind]) for i, s in zip(places, rows, strict=True) if kind in s]
            values = [v["ratio"] for _, v in shown]
            errors = [
                [v["ratio"] - v["interval"][0] for _, v in shown],
                [v["interval"][1] - v["ratio"] for _, v in shown],
            ]
            panel.barh(
                [i + 0.4 * offset for i, _ in shown], values, 0.38, xerr=errors, color=color, label=label,
                error_kw={"elinewidth": 1, "capsize": 2},
            )  # fmt: skip
        panel.axvline(1.0, color="black", linewidth=1)
        panel.set_yticks([i + 0.2 for i in places], [_short(s["model"]) for s in rows], fontsize=LABEL_SIZE)
        panel.invert_yaxis()
        panel.set(xlabel="images per second, jaxvision / timm (above 1: jaxvision is faster)", title=MODES[mode])
        panel.grid(alpha=0.3, axis="x")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)  # below: bars reach everywhere
    figure.suptitle(f"{_machine(document)}, {document['dtype']}, {document['date']}")
    return figure


def _figure(width: float, height: float, panels: int, *, sharex: bool = False) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, panels, squeeze=False, sharex=sharex)[0]


def _speed_axis(panel: Any) -> None:
    """A logarithmic axis whose ticks are numbers that people read: 5, 7, 10, 15, 20, 30, 50, ..."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=20))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _label(panel: Any, rows: list[dict[str, Any]]) -> None:
    """Writes each model's name next to its points, where it covers nothing, stays inside and is nearest to its own.

    Where it is not next to its points, or as near to another model's, a line leads to them.
    """
    renderer, scale = panel.figure.canvas.get_renderer(), DPI / 72
    window = panel.get_window_extent(renderer)
    inside = (window.x0 + 2, window.y0 + 2, window.x1 - 2, window.y1 - 2)
    own: dict[
        str, list[tuple[Box, float]]
    ] = {}  # of each model: its points and the line between them, with their radii
    for s in rows:
        sides = [side for side in COLORS if side in s]
        if not sides:
            continue
        spots = panel.transData.transform([(_speed(s, side), s["top1"]) for side in sides])
        radii = [math.sqrt(_area(s[side]["memory"])) / 2 * scale for side in sides]
        points = [((x, y, x, y), r) for (x, y), r in zip(spots, radii, strict=True)]
        own[_short(s["model"])] = [*points, ((min(spots[:, 0]), spots[0, 1], max(spots[:, 0]), spots[0, 1]), 1.0)]
    taken = [_grown(*shape) for shapes in own.values() for shape in shapes]  # what no name may cover: these, and names
    around = {name: _union([_grown(*shape) for shape in shapes]) for name, shapes in own.items()}

    def distance(box: Box, model: str) -> float:
        return min(_distance(box, core) - radius for core, radius in own[model])

    for name in sorted(own, key=lambda name: -around[name][1]):

        def nearer(box: Box, name: str = name) -> int:
            """How many other models are nearer than the own one, or hardly farther away."""
            return sum(distance(box, other) <= distance(box, name) + 3 for other in own if other != name)

        def cost(box: Box, name: str = name) -> float:
            """Overlaps weigh most, then other models that are nearer than the own one, then the distance."""
            outside = (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, inside)
            covered = sum(_overlap(box, other) for other in taken)
            return 1e4 * outside + 1e2 * covered + 30 * nearer(box) + distance(box, name)

        size = _size(panel, name, renderer)
        box = min(_places(around[name], *size), key=cost)
        taken.append(box)
        middle, anchor = _center(box), _center(around[name])
        shift = [(m - a) / scale for m, a in zip(middle, anchor, strict=True)]
        leads = distance(box, name) > size[1] or nearer(box)
        panel.annotate(
            name, panel.transData.inverted().transform(anchor), shift,
            textcoords="offset points", fontsize=LABEL_SIZE, ha="center", va="center", zorder=3,
            arrowprops={"arrowstyle": "-", "color": "gray", "linewidth": 0.6} if leads else None,
        )  # fmt: skip


def _grown(box: Box, by: float) -> Box:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _union(boxes: Sequence[Box]) -> Box:
    """The box around boxes."""
    left, bottom, right, top = zip(*boxes, strict=True)
    return min(left), min(bottom), max(right), max(top)


def _center(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _places(around: Box, width: float, height: float) -> Iterator[Box]:
    """Boxes of a name's size around a box, the nearest first: above, right, left, below, then farther away."""
    left, bottom, right, top = around
    x, y = (left + right - width) / 2, (bottom + top - height) / 2
    for step in range(8):
        gap = 1 + 0.7 * step * height
        spots = [(x, top + gap), (right + gap, y), (left - width - gap, y), (x, bottom - height - gap)]
        for shift in (0.3, 0.6):
            for across in (shift * width, -shift * width):
                spots += [(x + across, top + gap), (x + across, bottom - height - gap)]
            for up in (shift * 2 * height, -shift * 2 * height):
                spots += [(right + gap, y + up), (left - width - gap, y + up)]
        yield from ((a, b, a + width, b + height) for a, b in spots)


def _size(panel: Any, text: str, renderer: Any) -> tuple[float, float]:
    """Width and height in pixels of a name, with a little room around it."""
    probe = panel.text(0, 0, text, fontsize=LABEL_SIZE, transform=None)
    box = probe.get_window_extent(renderer)
    probe.remove()
    return box.width + 4, box.height + 2


def _overlap(a: Box, b: Box) -> float:
    """The common area of two boxes."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _distance(a: Box, b: Box) -> float:
    """Between the nearest points of two boxes."""
    across, up = max(a[0] - b[2], b[0] - a[2], 0.0), max(a[1] - b[3], b[1] - a[3], 0.0)
    return math.hypot(across, up)


def _speed(s: dict[str, Any], side: str) -> float:
    return s["images_per_s"][f"{side} {s[side]['variant']}"]


def _area(memory: float | None) -> float:
    return AREA + AREA_PER_GB * (memory or 0) / 2**30


def _short(model: str) -> str:
    return model.replace("_patch4_window7_224", "").replace("_patch16_224", "")


def _machine(document: dict[str, Any]) -> str:
    here = document["machine"]
    if here["gpu"]:
        return here["gpu"].split(",")[0]
    return f"{here['cpus']} CPU cores" + (f" ({here['cpu']})" if here.get("cpu") else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("result", type=Path, help="a JSON of tools/bench/main.py")
    parser.add_argument("--out", type=Path, help="folder of the pictures; default: beside the result")
    parser.add_argument("--tradeoff", type=Path, help="write only the picture of speed against accuracy, to this file")
    args = parser.parse_args(argv)
    try:
        document = json.loads(args.result.read_text())
        table = bench_table(document)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {args.result} is no result of tools/bench/main.py: {error}", file=sys.stderr)
        return 2
    if args.tradeoff:
        _save(tradeoff_figure(document), args.tradeoff)
        print(f"written: {args.tradeoff}")
        return 0
    print(table)
    for path in plot_all(document, (args.out or args.result.parent) / args.result.stem):
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    command_line.start(main)
