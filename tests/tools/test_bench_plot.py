"""The pictures of a benchmark's result: names that can be read, points that are joined, ticks in plain numbers."""

import collections
import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Annotation, Text

from tools.bench import plot


def summary(model, mode, top1, speeds, memory=2.0):
    """A row as ``tools/bench/main.py`` writes it, with one variant on each side that has a speed."""
    row = {"model": model, "mode": mode, "batch": 32, "top1": top1, "errors": {}, "images_per_s": {}}
    for side, speed in speeds.items():
        row["images_per_s"][f"{side} v"] = speed
        row[side] = {"variant": "v", "memory": memory * 2**30, "compile_s": 1.0}
    if len(speeds) == 2:
        ratio = speeds["jaxvision"] / speeds["timm"]
        row["best"] = row["default"] = {"ratio": ratio, "interval": [0.9 * ratio, 1.1 * ratio]}
    return row


def result(rows):
    here = {"cpu": "a processor", "cpus": 2, "gpu": None, "python": "3", "load": [0.0]}
    return {
        "date": "2026-01-01", "dtype": "float32", "machine": here, "summary": rows, "command": "c", "rounds": 3,
        "versions": {}, "rates": {"flops_per_s": 1e12, "bytes_per_s": 1e9}, "top1": {}, "device": "cpu",
    }  # fmt: skip


# Ten models at nearly one place, in both modes, and one far away with the longest name.
CROWDED = result(
    [
        summary(f"model_{i}", mode, 80.0 + 0.11 * i, {"jaxvision": 20.0 + i, "timm": 21.0})
        for mode in ("infer", "train")
        for i in range(10)
    ]
    + [
        summary("a_model_with_a_very_long_name", mode, 77.0, {"jaxvision": 100.0, "timm": 110.0})
        for mode in ("infer", "train")
    ]
)


def newest():
    """The committed results that have both modes, the newest last."""
    files = Path("benchmarks/results").glob("bench_run_*.json")
    return json.loads(max(files, key=lambda path: path.stem[-10:]).read_text())


def names(panel, renderer):
    """The text boxes of a panel's names, without their leader lines."""
    texts = [text for text in panel.texts if isinstance(text, Annotation)]
    return {text.get_text(): Text.get_window_extent(text, renderer) for text in texts}


@pytest.mark.parametrize("document", [CROWDED, newest()], ids=["crowded", "newest"])
def test_names_neither_overlap_nor_leave_the_axes(document):
    figure = plot.tradeoff_figure(document)
    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    for panel in figure.axes:
        boxes, window = names(panel, renderer), panel.get_window_extent(renderer)
        mode = {v: k for k, v in plot.MODES.items()}[panel.get_title()]
        assert len(boxes) == sum(s["mode"] == mode for s in document["summary"]) > 9
        for name, box in boxes.items():
            assert window.x0 <= box.x0 and box.x1 <= window.x1 and window.y0 <= box.y0 and box.y1 <= window.y1, name
            covered = [other for other, b in boxes.items() if other != name and box.overlaps(b)]
            assert not covered, f"{name} covers {covered}"
        centers = [panel.transData.transform(p) for points in panel.collections for p in points.get_offsets()]
        for name, box in boxes.items():
            assert not any(box.contains(*center) for center in centers), f"{name} covers a point"


@pytest.mark.parametrize("document", [CROWDED, newest()], ids=["crowded", "newest"])
def test_a_name_is_nearest_to_its_own_points_or_led_to_them(document):
    figure = plot.tradeoff_figure(document)
    renderer = figure.canvas.get_renderer()
    figure.draw(renderer)
    for panel in figure.axes:
        mode = {v: k for k, v in plot.MODES.items()}[panel.get_title()]
        points = collections.defaultdict(list)  # of each model: centers and radii in pixels
        for shown in (shown for shown in panel.collections if len(shown.get_offsets())):
            rows = [s for s in document["summary"] if s["mode"] == mode and shown.get_label() in s]
            centers = panel.transData.transform(shown.get_offsets())
            for s, center, area in zip(rows, centers, shown.get_sizes(), strict=True):
                points[s["model"]].append((center, math.sqrt(area) / 2 * plot.DPI / 72))
        led = {text.get_text() for text in panel.texts if getattr(text, "arrow_patch", None)}
        assert len(led) < len(points) / 2
        for name, box in names(panel, renderer).items():
            gap = {
                model: min(math.hypot(*(center - np.clip(center, box.min, box.max))) - radius for center, radius in own)
                for model, own in points.items()
            }
            nearest = min(gap, key=gap.get)
            assert nearest.split("_patch")[0] == name or name in led, f"{name} looks like the name of {nearest}"


def test_the_two_points_of_a_model_are_joined():
    rows = [
        summary("resnet50", "infer", 80.4, {"jaxvision": 30.0, "timm": 20.0}),
        summary("only_ours", "infer", 79.0, {"jaxvision": 40.0}),
    ]
    (panel,) = plot.tradeoff_figure(result(rows)).axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in panel.lines]
    assert lines == [([30.0, 20.0], [80.4, 80.4]), ([40.0], [79.0])]
    points = {c.get_label(): c.get_offsets().tolist() for c in panel.collections if len(c.get_offsets())}
    assert points == {"jaxvision": [[30.0, 80.4], [40.0, 79.0]], "timm": [[20.0, 80.4]]}


def test_ticks_of_the_speed_are_plain_numbers():
    for panel in plot.tradeoff_figure(newest()).axes:
        low, high = panel.get_xlim()
        shown = [t.get_text() for t in panel.get_xticklabels() if low <= float(t.get_text() or "nan") <= high]
        assert len(shown) >= 4
        np.testing.assert_array_equal([f"{float(text):g}" for text in shown], shown)


def test_a_side_that_failed_is_left_out_of_the_ratios():
    rows = [
        summary("resnet50", mode, 80.4, {"jaxvision": 30.0, "timm": timm})
        for mode, timm in (("infer", 20.0), ("train", 60.0))
    ]
    figure = plot.ratio_figure(result([*rows, summary("only_ours", "infer", 79.0, {"jaxvision": 40.0})]))
    left, right = figure.axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["resnet50"]
    assert left.patches[0].get_width() == 1.5 and right.patches[0].get_width() == 0.5
    assert left.get_xlim() == right.get_xlim()  # the panels can be compared
    (legend,) = figure.legends
    legend = [text.get_text() for text in legend.get_texts()]
    assert legend == ["best / best: the fastest variant of each", "default / default: jax.jit and timm eager"]


def test_only_the_trade_off_where_asked(tmp_path, capsys):
    (tmp_path / "r.json").write_text(json.dumps(result([summary("m", "infer", 80.0, {"jaxvision": 1.0, "timm": 2.0})])))
    assert plot.main([str(tmp_path / "r.json"), "--tradeoff", str(tmp_path / "speed.png")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "speed.png"]
    assert "speed.png" in capsys.readouterr().out
