"""The end of a run, from its records: ``curves.png`` and the printed summary."""

from __future__ import annotations

import dataclasses
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxvision.errors import listed
from jaxvision.files import replace_file

EVAL_LOSS = "cross-entropy"  # what every evaluation reports, whatever the training loss is
COLORS = {"train": "tab:blue", "raw": "tab:orange", "EMA": "tab:green"}  # by a word of the label
_FEW = 12  # points of a curve; up to as many are marked
_LABEL_SIZE = 8  # points


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes:
      label: what is drawn, for the legend.
      steps, values: the points; at least one.
      final: the last value as text, which stands at the end of the line.
    """

    label: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    final: str

    @property
    def color(self) -> str:
        """The same for each of training, raw and EMA in every panel."""
        return next((color for word, color in COLORS.items() if word in self.label), "tab:gray")


@dataclasses.dataclass(frozen=True)
class Panel:
    """A title and the curves that share its axes; at least one curve."""

    title: str
    curves: tuple[Curve, ...]


def panels(records: Sequence[dict[str, Any]], *, train_loss: str, train_images: str) -> list[Panel]:
    """What ``curves.png`` shows: a panel only where there are records, losses together only where they are the same.

    Args:
      records: of a run, as in ``metrics.jsonl``.
      train_loss: what the training loss is; the evaluation's is ``EVAL_LOSS``.
      train_images: on what training loss and accuracy are measured, such as "mixed and augmented images".
    """

    def curve(kind: str, key: str, label: str, form: str) -> list[Curve]:
        points = [(r["step"], r[key]) for r in records if r["kind"] == kind and r.get(key) is not None]
        if not points:
            return []
        steps, values = zip(*points, strict=True)
        return [Curve(label, steps, values, format(values[-1], form))]

    training, raw, ema = f"training, {train_images}", "evaluation, raw weights", "evaluation, EMA weights"
    train = curve("train", "loss", training, ".4g")
    evaluation = curve("eval", "eval_loss", raw, ".4g") + curve("eval", "ema_eval_loss", ema, ".4g")
    if train_loss == EVAL_LOSS:
        losses = [(f"training and evaluation loss: {EVAL_LOSS}", train + evaluation)]
    else:
        losses = [(f"training loss: {train_loss}", train), (f"evaluation loss: {EVAL_LOSS}", evaluation)]
    top1 = curve("train", "accuracy", training, ".2f")
    top1 += curve("eval", "top1", raw, ".2f") + curve("eval", "ema_top1", ema, ".2f")
    found = [*losses, ("top-1 %", top1)]
    rate = curve("train", "learning_rate", "learning rate", ".3g")
    if rate and len(rate[0].steps) > 1:  # a single value says nothing of a schedule
        found.append(("learning rate", rate))
    return [Panel(title, tuple(curves)) for title, curves in found if curves]


def plot_curves(
    records: Sequence[dict[str, Any]], path: Path, title: str, *, train_loss: str, train_images: str
) -> None:
    """Draws the ``panels`` to a PNG, which is written atomically; nothing where there is nothing to draw."""
    figure = curves_figure(panels(records, train_loss=train_loss, train_images=train_images), title)
    if figure is not None:
        replace_file(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))


def curves_figure(shown: Sequence[Panel], title: str) -> Any:
    """The picture of the panels, up to three in a row and four in two; None where there are none."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not shown:
        return None
    rows, columns = (1, len(shown)) if len(shown) < 4 else (2, 2)
    width = 5 if columns == 3 else 6
    height = 3.6 if any(map(_has_line, shown)) else 2.2
    last = max(curve.steps[-1] for panel in shown for curve in panel.curves)
    # Objects instead of pyplot: no global state, no display.
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    named: dict[str, Any] = {}
    for i, panel in enumerate(shown):
        axis = figure.add_subplot(rows, columns, i + 1)
        axis.set_title("\n".join(textwrap.wrap(panel.title, 11 * width)), fontsize=11)
        axis.grid(alpha=0.3)
        if _has_line(panel):
            lines = _draw_lines(axis, panel.curves, last)
            if [curve.label for curve in panel.curves] != [panel.title]:
                named |= lines
        else:
            _draw_bars(axis, panel.curves)
    if named:  # below all panels, which use the same colors: inside it would hide a line
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=len(named), fontsize=_LABEL_SIZE)
    figure.suptitle(title)
    return figure


def _has_line(panel: Panel) -> bool:
    return any(len(curve.steps) > 1 for curve in panel.curves)


def _draw_lines(axis: Any, curves: Sequence[Curve], last: int) -> dict[str, Any]:
    """Curves over the steps, the final value of each at its end; returns the lines by label."""
    lines = {}
    for curve in curves:
        style = "o-" if len(curve.steps) <= _FEW else "-"
        (lines[curve.label],) = axis.plot(curve.steps, curve.values, style, color=curve.color, markersize=4)
    axis.set(xlabel="step", xlim=(0, 1.14 * last))  # the final values stand in the last eighth
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.ticklabel_format(useOffset=False)
    low, high = axis.get_ylim()
    least = 0.01 * max(abs(low), abs(high))  # a range of less would magnify what is no difference
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    axis.set_ylim(low, high)
    ordered = sorted(curves, key=lambda curve: curve.values[-1])
    heights = _spread([(curve.values[-1] - low) / (high - low) for curve in ordered], gap=0.06)
    for curve, height in zip(ordered, heights, strict=True):
        place = (curve.steps[-1] + 0.012 * last, low + height * (high - low))
        axis.text(*place, curve.final, color=curve.color, fontsize=_LABEL_SIZE, va="center")
    return lines


def _draw_bars(axis: Any, curves: Sequence[Curve]) -> None:
    """Single values, as of a run of a few steps: a bar each with its name and value."""
    for i, curve in enumerate(curves):
        axis.barh(i, curve.values[0], 0.7, color=curve.color, alpha=0.35)
        text = f"{curve.label}, step {curve.steps[0]}: {curve.final}"
        axis.annotate(text, (0, i), (6, 0), textcoords="offset points", fontsize=_LABEL_SIZE, va="center")
    middle, half = (len(curves) - 1) / 2, max(len(curves), 3) / 2  # one bar is no thicker than one of three
    axis.set(yticks=[], ylim=(middle + half, middle - half))  # the first on top


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights in [0, 1], moved as little as it takes to be ``gap`` apart and within."""
    moved = list(heights)
    for i in range(len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap if i else gap / 2)
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], moved[i + 1] - gap if i + 1 < len(moved) else 1 - gap / 2)
    return moved


def loss_spikes(train: Sequence[dict[str, Any]]) -> list[int]:
    """Steps of the training records whose loss is over twice the median of the ten records before, or not finite."""
    steps = []
    for i, record in enumerate(train):
        before = [r["loss"] for r in train[max(i - 10, 0) : i] if r["loss"] is not None]
        if record["loss"] is None or (before and record["loss"] > 2 * statistics.median(before)):
            steps.append(record["step"])
    return steps


def summary(
    records: Sequence[dict[str, Any]], *, name: str, workdir: Path, best_step: int | None, skipped: dict[int, str]
) -> str:
    """The one-screen end of a run."""
    train = [r for r in records if r["kind"] == "train"]
    evals = [r for r in records if r["kind"] == "eval"]
    lines = ["", f"{name}: finished at step {max((r['step'] for r in records), default=0)}"]
    if evals:
        last = evals[-1]
        lines.append(
            f"  top-1   raw {last['top1']:6.2f} %   EMA {last['ema_top1']:6.2f} %   ({last['examples']:.0f} images)"
        )
        lines.append(f"  top-5   raw {last['top5']:6.2f} %   EMA {last['ema_top5']:6.2f} %")
        best = max(reversed(evals), key=lambda r: max(r["top1"], r["ema_top1"]))
        lines.append(
            f"  best    {max(best['top1'], best['ema_top1']):.2f} % at step {best['step']}, kept as step {best_step}"
        )
    if train:
        rates = sorted(r["images_per_second"] for r in train)
        lines.append(f"  loss    {train[-1]['loss'] or float('nan'):.4f}   median {rates[len(rates) // 2]:.0f} img/s")
        if train[-1]["bad_steps"]:
            lines.append(f"  skipped {train[-1]['bad_steps']:.0f} steps that were not finite")
        if spikes := loss_spikes(train):
            lines.append(f"  spikes  of the loss, over twice that before, at step {listed(spikes, 5)}")
    if skipped:
        lines.append(f"  replaced {len(skipped)} unreadable examples: {sorted(skipped)[:10]}")
    files = ("curves.png", "metrics.csv", "metrics.jsonl", "tensorboard/", "checkpoints/", "config.json", "classes.txt")
    lines.append(f"  in {workdir}: {', '.join(file for file in files if (workdir / file).exists())}")
    return "\n".join(lines)
