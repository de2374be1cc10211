"""What a person sees of a run: a live display on a terminal, plain lines in a pipe or a file."""

from __future__ import annotations

import contextlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jaxvision import terminal
from jaxvision.run.preemption import write_notice

_LEAST_BAR = 8  # columns; a narrower bar is left out


@contextlib.contextmanager
def notes(say: Callable[[str], None]) -> Iterator[None]:
    """Passes each ``UserWarning`` of the block, such as that weights were adapted, to ``say`` as a line "note: ..."."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            say(f"note: {warning.message}")


class Console:
    """Progress of a run; silent in every process but the first.

    On a terminal some lines at the bottom are redrawn in place: step, epoch, bar and time left; the newest metrics and
    the time since the start; evaluation and compilation, each with a timer. Elsewhere each record is a line.

    Args:
      enabled: whether this process prints.
      total: steps of the run.
      per_epoch: steps of an epoch; 0: epochs are not shown.
      mixed: whether training images are mixed, which the accuracy says then: it is far below that of an evaluation.
    """

    def __init__(self, *, enabled: bool, total: int, per_epoch: float = 0.0, mixed: bool = False) -> None:
        self.enabled, self.total, self.per_epoch, self.mixed = enabled, total, per_epoch, mixed
        self._created = time.monotonic()
        # Step, time of the first step that counts for the speed, and of the newest.
        self._first: tuple[int, float] | None = None
        self._newest: tuple[int, float] | None = None
        self._metrics: Sequence[str] = ()
        self._evaluation: tuple[int, int, float] | None = None  # batches done, of how many, since when
        self._work: tuple[str, float] | None = None  # what is being done, since when
        self._notice = ""
        self._rich: RichConsole | None = None
        self._live: Live | None = None
        if enabled and sys.stdout.isatty():
            rich = RichConsole()
            if not rich.is_dumb_terminal:
                self._rich = rich

    def line(self, text: str) -> None:
        """Prints text; on a terminal long lines are broken between words."""
        if not self.enabled:
            return
        if self._rich is not None:
            self._print(text)
        else:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """Prints a warning in every process: on the terminal, or else on the error stream."""
        if self._rich is not None:
            self._print(f"warning: {text}", style="yellow")
        else:
            print(f"warning: {text}", file=sys.stderr, flush=True)

    def notice(self, text: str) -> None:
        """Shows text from a signal handler, where a stream may be in the middle of another write."""
        if self._live is not None:
            self._notice = text  # drawn by the display's own thread, and printed before the next line
        else:
            with contextlib.suppress(OSError):  # nobody reads the error stream any more
                write_notice(text)

    @contextlib.contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Shows that the block, such as "compiling the train step", takes its time, and then how long it took."""
        began = time.monotonic()
        if self._rich is None:
            self.line(f"{what} ...")
        self._work = (what, began)
        self._show()
        try:
            yield
        finally:
            self._work = None
        self.line(f"{what}: done in {time.monotonic() - began:.1f} s")

    def stepped(self, step: int) -> None:
        """A training step is done; called after every step."""
        self._newest = (step, time.monotonic())
        if self._first is None:  # the speed is measured from here on: the step before it waited for the compilation
            self._first = self._newest
        self._show()

    def logged(self, step: int, values: Mapping[str, Any]) -> None:
        """A training record is due: shown on the display, or printed as a line."""
        self._metrics = (
            f"loss {_number(values['loss'], '.4f')}",
            f"acc {_number(values['accuracy'], '.1f')} %{' (mixed images)' if self.mixed else ''}",
            f"lr {values['learning_rate']:.4g}",
            f"{values['images_per_second']:.0f} img/s",
        )
        if self._rich is None:
            self.line("  ".join([*self._position(step), *self._metrics, f"ETA {_duration(self._eta())}"]))

    def evaluating(self, batch: int, batches: int) -> None:
        """``batch`` of ``batches`` of an evaluation are done; 0 starts its timer."""
        began = self._evaluation[2] if self._evaluation else time.monotonic()
        self._evaluation = (batch, batches, began) if batch < batches else None
        self._show()

    def evaluated(self, step: int, values: Mapping[str, float]) -> None:
        """An evaluation is complete: prints its result, on a terminal as much of it as fits one line."""
        self._evaluation = None
        items = (
            f"eval at step {step}: top-1 {values['top1']:.2f} % (EMA {values['ema_top1']:.2f} %)",
            f"top-5 {values['top5']:.2f} % (EMA {values['ema_top5']:.2f} %)",
            f"{values['examples']:.0f} images",
        )
        self.line("  ".join(items) if self._rich is None else _fitting(items, self._rich.width))
        for weights, prefix in (("raw weights", ""), ("EMA", "ema_")):
            loss = values.get(f"{prefix}eval_loss", 0.0)
            if self.enabled and not math.isfinite(loss):
                self.warn(f"logits of the {weights} are NaN or infinite (eval loss {loss}): a NaN counts as wrong")

    def resumed(self, step: int, changes: Sequence[str]) -> None:
        """Training continues from a checkpoint: prints the step, and the config fields that changed since."""
        self.line(f"resumed from step {step}")
        for change in changes:
            self.line(f"  changed since the checkpoint: {change}")

    def skipped(self, examples: Mapping[int, str], told: int) -> int:
        """Warns of the unreadable examples after the first ``told``; returns how many are told now."""
        for message in list(examples.values())[told:]:
            self.warn(f"replaced {message}")
        return len(examples)

    def close(self) -> None:
        """Leaves the display as it stands, and the cursor below it."""
        if self._live is not None:
            self._print_notice()
            self._live.stop()
            self._live = None

    # ------------------------------------------------------------------ the display

    def _show(self) -> None:
        """Starts the display with the first thing to show: what fails before that leaves the terminal as it was."""
        if self._rich is not None and self._live is None:
            self._live = Live(console=self._rich, get_renderable=self._draw, refresh_per_second=4)
            self._live.start()

    def _print(self, text: str, style: str | None = None) -> None:
        assert self._rich is not None
        self._print_notice()  # it came before this text
        shown = terminal.fitted(text, min(self._rich.width, terminal.WIDEST))
        self._rich.print(shown, style=style, markup=False, highlight=False, soft_wrap=True)

    def _print_notice(self) -> None:
        """Turns the notice on the display into a line."""
        notice, self._notice = self._notice, ""
        if notice:
            self._print(notice, style="yellow")

    def _draw(self) -> RenderableType:
        """The lines of the display, each no wider than the terminal."""
        assert self._rich is not None
        width, now, rows = self._rich.width, time.monotonic(), []
        if self._newest is not None:
            step, _ = self._newest
            rows.append(_bar(self._position(step), step, self.total, f"ETA {_duration(self._eta())}", width))
            rows.append(_line(self._metrics, f"elapsed {_duration(now - self._created)}", width))
        if self._evaluation is not None:
            batch, batches, began = self._evaluation
            rows.append(_bar([f"evaluating {batch}/{batches}"], batch, batches, _duration(now - began), width))
        if self._work is not None:
            what, began = self._work
            rows.append(_line([f"{what} ..."], _duration(now - began), width))
        if self._notice:
            rows.append(Text(self._notice, style="yellow"))
        return Group(*rows)

    def _position(self, step: int) -> list[str]:
        """``step 500/1000`` and ``epoch 1.5/3``."""
        items = [f"step {step}/{self.total}"]
        if self.per_epoch:
            epochs = self.total / self.per_epoch
            digits = 1 if epochs >= 10 else 2
            items.append(f"epoch {step / self.per_epoch:.{digits}f}/{round(epochs, digits):g}")
        return items

    def _eta(self) -> float:
        """Seconds to the end at the average speed so far, evaluations included; infinite where none is known."""
        if self._first is None or self._newest is None:
            return math.inf
        (first, began), (step, now) = self._first, self._newest
        if step >= self.total:
            return 0.0
        return (self.total - step) * (now - began) / (step - first) if step > first else math.inf


def _line(items: Sequence[str], right: str, width: int) -> Text:
    """The leading items that fit, and ``right`` at the right edge."""
    left = _fitting(items, width - len(right) - 2)
    return Text(left + right.rjust(width - len(left)), no_wrap=True, overflow="crop")


def _bar(items: Sequence[str], done: int, total: int, right: str, width: int) -> RenderableType:
    """The leading items that fit, a bar over the rest of the line, and ``right``."""
    left = _fitting(items, width - len(right) - 2)
    room = width - len(left) - len(right) - 4
    if room < _LEAST_BAR:
        return _line(items, right, width)
    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text(left), ProgressBar(max(total, 1), min(done, total), width=room), Text(right))
    return grid


def _fitting(items: Sequence[str], width: int) -> str:
    """As many of the items, two spaces apart, as fit whole; of a single one that does not fit, its beginning."""
    shown = list(items)
    while len(shown) > 1 and len("  ".join(shown)) > width:
        shown.pop()
    return "  ".join(shown)[: max(width, 0)]


def _number(value: float | None, form: str) -> str:
    return "nan" if value is None else format(value, form)


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "?"
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"


def parameter_table(params: Any) -> str:
    """Tensors and parameters of each stage (top-level modules up to the first dot of their names), and the total."""
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
