"""The end of a run, from its records: ``curves.png`` and the printed summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxvision.files import replace_file

EVAL_LOSS = "cross-entropy"  # what every evaluation reports, whatever the training loss is
COLORS = {"train": "tab:blue", "raw": "tab:orange", "EMA": "tab:green"}  # by a word of the label


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes:
      label: what is drawn, with its final value: this is the text of the legend.
      steps, values: the points; at least one.
      sparse: whether each point is marked, because there are few of them.
    """

    label: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    sparse: bool


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
        return [Curve(f"{label}: {values[-1]:{form}}", steps, values, kind == "eval" or len(points) == 1)]

    training, raw, ema = f"train ({train_images})", "evaluation, raw weights", "evaluation, EMA weights"
    train = curve("train", "loss", training, ".3f")
    evaluation = curve("eval", "eval_loss", raw, ".3f") + curve("eval", "ema_eval_loss", ema, ".3f")
    if train_loss == EVAL_LOSS:
        losses = [(f"loss: {EVAL_LOSS}", train + evaluation)]
    else:
        losses = [(f"training loss: {train_loss}", train), (f"evaluation loss: {EVAL_LOSS}", evaluation)]
    top1 = curve("train", "accuracy", training, ".2f")
    top1 += curve("eval", "top1", raw, ".2f") + curve("eval", "ema_top1", ema, ".2f")
    found = [*losses, ("top-1 %", top1), ("learning rate", curve("train", "learning_rate", "learning rate", ".3g"))]
    return [Panel(title, tuple(curves)) for title, curves in found if curves]


def plot_curves(
    records: Sequence[dict[str, Any]], path: Path, title: str, *, train_loss: str, train_images: str
) -> None:
    """Draws the ``panels``, two in a row, to a PNG, which is written atomically.

    Nothing is written where there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = panels(records, train_loss=train_loss, train_images=train_images)
    if not shown:
        return
    rows, columns = -(-len(shown) // 2), min(2, len(shown))
    last = max(curve.steps[-1] for panel in shown for curve in panel.curves)
    # Objects instead of pyplot: no global state, no display.
    figure = Figure(figsize=(6 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for i, panel in enumerate(shown):
        axis = figure.add_subplot(rows, columns, i + 1)
        for curve in panel.curves:
            # One color for each of train, raw and EMA in every panel, whichever of them it has.
            color = next((c for word, c in COLORS.items() if word in curve.label), "tab:gray")
            style = "o-" if curve.sparse else "-"
            axis.plot(curve.steps, curve.values, style, color=color, markersize=4, label=curve.label)
        axis.set(title=panel.title, xlabel="step", xlim=(0, 1.03 * last))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.suptitle(title)
    replace_file(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))


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
    if skipped:
        lines.append(f"  replaced {len(skipped)} unreadable examples: {sorted(skipped)[:10]}")
    files = ("curves.png", "metrics.csv", "metrics.jsonl", "tensorboard/", "checkpoints/", "config.json")
    lines.append(f"  in {workdir}: {', '.join(files)}")
    return "\n".join(lines)
