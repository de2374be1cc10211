"""What a person sees: a live bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import contextlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextlib.contextmanager
def notes(say: Callable[[str], None]) -> Iterator[None]:
    """Says what is warned of inside, such as adapted weights, as notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            say(f"note: {warning.message}")


class Console:
    """Progress of a run; silent in every process but the first.

    Args:
      enabled: whether this process talks.
      total: steps of the run.
    """

    def __init__(self, *, enabled: bool, total: int) -> None:
        self.enabled, self.total = enabled, total
        self._began: float | None = None
        self._start = 0
        self._progress: Progress | None = None
        if enabled and sys.stdout.isatty():
            rich = RichConsole(soft_wrap=True)
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[info]}"),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(elapsed_when_finished=False),
                console=rich,
                expand=True,
                speed_estimate_period=120,
            )
            self._train = self._progress.add_task("train", total=total, info="", visible=False)
            self._eval = self._progress.add_task("eval", total=1, info="", visible=False)
            self._progress.start()

    def line(self, text: str) -> None:
        """A line of text."""
        if not self.enabled:
            return
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """A one-line warning on the error stream; said by every process."""
        if self._progress is not None:
            self._progress.console.print(f"warning: {text}", style="yellow", markup=False, highlight=False)
        else:
            print(f"warning: {text}", file=sys.stderr, flush=True)

    def stepped(self, step: int) -> None:
        """A step is done."""
        if self._began is None:  # the first step is left out: it waits for the compilation
            self._began, self._start = time.monotonic(), step
        if self._progress is not None:
            self._progress.update(self._train, completed=step, visible=True)

    def logged(self, step: int, values: Mapping[str, Any]) -> None:
        """A training record: on the bar, or as a line with an ETA."""
        text = (
            f"loss {_number(values['loss'], '.4f')}  acc {_number(values['accuracy'], '.1f')} %  "
            f"lr {values['learning_rate']:.4g}  {values['images_per_second']:.0f} img/s"
        )
        if self._progress is not None:
            self._progress.update(self._train, info=text)
        else:
            rate = (step - self._start) / max(time.monotonic() - (self._began or 0), 1e-9)
            eta = (self.total - step) / rate if rate else math.inf
            self.line(f"step {step}/{self.total}  {text}  ETA {_duration(eta)}")

    def evaluating(self, step: int, steps: int) -> None:
        """An evaluation batch is done."""
        if self._progress is not None:
            self._progress.update(self._eval, completed=step, total=steps, visible=step < steps)

    def evaluated(self, step: int, values: Mapping[str, float]) -> None:
        """An evaluation is complete."""
        self.line(
            f"eval at step {step}: top-1 {values['top1']:.2f} % raw, {values['ema_top1']:.2f} % EMA; "
            f"top-5 {values['top5']:.2f} % raw, {values['ema_top5']:.2f} % EMA; {values['examples']:.0f} images"
        )

    def resumed(self, step: int, changes: Sequence[str]) -> None:
        """Training goes on from a checkpoint; names the fields that changed since."""
        self.line(f"resumed from step {step}")
        for change in changes:
            self.line(f"  changed since the checkpoint: {change}")

    def skipped(self, examples: Mapping[int, str], told: int) -> int:
        """Reports the unreadable examples after the first ``told``; returns how many are told now."""
        for message in list(examples.values())[told:]:
            self.warn(f"replaced {message}")
        return len(examples)

    def close(self) -> None:
        """Stops the live bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _number(value: float | None, form: str) -> str:
    return "nan" if value is None else format(value, form)


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"


def parameter_table(params: Any) -> str:
    """Parameters per top-level module, grouped by stage, with the total."""
    import jax

    rows: dict[str, list[int]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        stage = path[0].key.split(".")[0]
        entry = rows.setdefault(stage, [0, 0])
        entry[0] += 1
        entry[1] += int(leaf.size)
    total = [sum(r[i] for r in rows.values()) for i in (0, 1)]
    lines = [f"{'module':<12}{'tensors':>9}{'parameters':>14}"]
    lines += [f"{name:<12}{tensors:>9}{size:>14,}" for name, (tensors, size) in {**rows, "total": total}.items()]
    return "\n".join(lines)
