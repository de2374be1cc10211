"""``curves.png``: loss, learning rate and accuracy of a run, from its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def plot_curves(records: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Draws the three panels; written aside first, so a picture is never half there."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def series(kind: str, key: str) -> tuple[list[int], list[float]]:
        chosen = [r for r in records if r["kind"] == kind and r.get(key) is not None]
        return [r["step"] for r in chosen], [r[key] for r in chosen]

    # Objects instead of pyplot: no global state, no display.
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate, accuracy = figure.subplots(1, 3)
    loss.plot(*series("train", "loss"), label="train")
    loss.plot(*series("eval", "eval_loss"), "o-", label="eval, raw")
    loss.plot(*series("eval", "ema_eval_loss"), "o-", label="eval, EMA")
    loss.set(title="loss", xlabel="step")
    rate.plot(*series("train", "learning_rate"))
    rate.set(title="learning rate", xlabel="step")
    accuracy.plot(*series("train", "accuracy"), alpha=0.5, label="train")
    accuracy.plot(*series("eval", "top1"), "o-", label="eval, raw")
    accuracy.plot(*series("eval", "ema_top1"), "o-", label="eval, EMA")
    accuracy.set(title="top-1 %", xlabel="step")
    for axis in (loss, accuracy):
        axis.legend()
    for axis in (loss, rate, accuracy):
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    partial = path.with_suffix(".tmp.png")
    figure.savefig(partial, dpi=110)
    partial.replace(path)


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
