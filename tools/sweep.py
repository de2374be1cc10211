r"""Searches config fields for the best accuracy: which weight decay, which learning rate?

  python tools/sweep.py --config configs/resnet50_a3.py --workdir runs/decay --trials 12 --folds 5 \
      --search optimizer.weight_decay=log:0.002:0.2
  python tools/sweep.py --config configs/resnet_rs50.py:digits --workdir runs/grid --sampler grid \
      --search optimizer.weight_decay=choice:1e-5,1e-4,1e-3 --config.epochs=2

Each trial is a run of ``jaxvision.main`` with its own values. With ``--folds N`` it is N runs, each trained without one
fold of the training set and evaluated on it (cross-validation), so that the evaluation set stays unseen. Optuna chooses
the values and keeps them in ``sweep.db``. The same command continues where it stopped, also in the middle of a run. At
the end there are a table and a plot.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import hashlib
import io
import itertools
import json
import math
import shlex
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.shared import command_line

if TYPE_CHECKING:
    import optuna

INTERRUPTED = (130, 143)
METRICS = ("top1", "ema_top1", "top5", "ema_top5")


@dataclasses.dataclass(frozen=True)
class Axis:
    """One searched field.

    Attributes:
      field: of the config, ``optimizer.weight_decay``.
      kind: "log", "uniform", "int" or "choice".
      values: the bounds, or the choices as texts.
    """

    field: str
    kind: str
    values: tuple[Any, ...]

    def suggest(self, trial: optuna.Trial) -> Any:
        if self.kind == "choice":
            return trial.suggest_categorical(self.field, list(self.values))
        if self.kind == "int":
            return trial.suggest_int(self.field, *self.values)
        return trial.suggest_float(self.field, *self.values, log=self.kind == "log")


def parse_axis(text: str) -> Axis:
    """Reads FIELD=log:LOW:HIGH, FIELD=uniform:LOW:HIGH, FIELD=int:LOW:HIGH or FIELD=choice:A,B,C.

    Raises:
      UserError: anything else.
    """
    field, _, spec = text.removeprefix("config.").partition("=")
    kind, _, rest = spec.partition(":")
    expected = "FIELD=log:LOW:HIGH, FIELD=uniform:LOW:HIGH, FIELD=int:LOW:HIGH or FIELD=choice:A,B,C"
    if kind == "choice" and all(rest.split(",")):
        return Axis(field, kind, tuple(rest.split(",")))
    try:
        low, high = (int(v) if kind == "int" else float(v) for v in rest.split(":"))
    except ValueError:
        command_line.fail(f"--search {text}: expected {expected}")
    if kind not in ("log", "uniform", "int") or not field or not low < high or (kind == "log" and low <= 0):
        command_line.fail(f"--search {text}: expected {expected} with LOW < HIGH, above 0 for log")
    return Axis(field, kind, (low, high))


def check_fields(config: str, fixed: Sequence[str], axes: Sequence[Axis], folds: int) -> None:
    """Finds mistakes before the first trial: the config with each axis at its bounds must be valid.

    Raises:
      UserError: it is not, or there is no such field.
    """
    from jaxvision import main as main_lib
    from jaxvision.config import unknown_fields

    main_lib.parse(["--config", config, *fixed])
    if problems := unknown_fields([axis.field for axis in axes]):
        command_line.fail("\n".join(problems))
    fold = [f"--config.data.fold=1/{folds}"] if folds else []
    for pick in (0, -1):
        main_lib.parse(["--config", config, *fixed, *fold, *flags({a.field: a.values[pick] for a in axes})])


def flags(params: dict[str, Any]) -> list[str]:
    """Command-line flags of a trial's values."""
    return [f"--config.{field}={value}" for field, value in params.items()]


def run_trial(args: argparse.Namespace, params: dict[str, Any]) -> list[float]:
    """Trains one set of values, on every fold; returns the metric of each.

    Raises:
      KeyboardInterrupt: the run was interrupted, and saved.
      UserError: a run failed.
    """
    from jaxvision.run.records import read_records

    name = hashlib.sha1(json.dumps(params, sort_keys=True).encode()).hexdigest()[:10]
    scores = []
    for fold in range(1, max(args.folds, 1) + 1):
        folder = args.workdir / "trials" / name / (f"fold_{fold}" if args.folds else "run")
        folder.mkdir(parents=True, exist_ok=True)
        own = [f"--config.data.fold={fold}/{args.folds}"] if args.folds else []
        command = [sys.executable, "-m", "jaxvision.main", "--config", args.config, "--workdir", str(folder)]
        with (folder / "output.txt").open("a") as output:
            code = subprocess.call(
                [*command, *args.fixed, *own, *flags(params)], stdout=output, stderr=subprocess.STDOUT
            )
        if code in INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            last = (folder / "output.txt").read_text().strip().splitlines()[-1:] or ["no output"]
            command_line.fail(f"exit status {code}, {folder / 'output.txt'}: {last[0]}")
        evaluations = [record for record in read_records(folder) if record["kind"] == "eval"]
        scores.append(evaluations[-1][args.metric])
    return scores


def open_study(args: argparse.Namespace, axes: Sequence[Axis]) -> optuna.Study:
    """The study in ``sweep.db``; trials that were interrupted come first again.

    Raises:
      UserError: the workdir holds another search.
    """
    import optuna

    args.workdir.mkdir(parents=True, exist_ok=True)
    database = args.workdir.absolute() / "sweep.db"
    check_database(database)
    study = optuna.create_study(
        storage=f"sqlite:///{database}", study_name="sweep", direction="maximize", load_if_exists=True,
    )  # fmt: skip
    about = {
        "search": [list(map(str, (a.field, a.kind, *a.values))) for a in axes],
        "config": args.config, "fixed": args.fixed, "folds": args.folds, "metric": args.metric,
    }  # fmt: skip
    before = study.user_attrs.get("about", about)
    if before != about:
        changed = [f"{key}: {before[key]} -> {about[key]}" for key in about if before.get(key) != about[key]]
        command_line.fail(f"{args.workdir} holds another search; use another --workdir. Changed: {'; '.join(changed)}")
    study.set_user_attr("about", about)
    for trial in study.trials:
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={"resumed": True})
    if args.sampler == "grid" and not study.trials:
        for values in itertools.product(*(a.values for a in axes)):
            study.enqueue_trial({axis.field: value for axis, value in zip(axes, values, strict=True)})
    kind = optuna.samplers.TPESampler if args.sampler == "tpe" else optuna.samplers.RandomSampler
    study.sampler = kind(seed=args.seed + len(study.trials))  # not the first proposals again
    return study


def check_database(path: Path) -> None:
    """Ends the tool where what is to be the search's database is damaged or something else."""
    from jaxvision.files import check_regular

    check_regular(path)
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            found = "; ".join(row[0] for row in database.execute("PRAGMA integrity_check(3)"))
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        command_line.fail(
            f"{path} is damaged ({' '.join(found.split())}). Restore it, or move it away: the search then begins anew, "
            f"and trials whose runs are complete in {path.parent / 'trials'} are not trained again"
        )


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that have a result, or failed."""
    return [t for t in study.trials if "scores" in t.user_attrs or "error" in t.user_attrs]


def search(args: argparse.Namespace, axes: Sequence[Axis], say: Callable[[str], None]) -> optuna.Study:
    """Runs trials until there are enough."""
    import optuna

    from jaxvision.errors import UserError

    study = open_study(args, axes)
    total = math.prod(len(a.values) for a in axes) if args.sampler == "grid" else args.trials
    while len(finished(study)) < total:
        trial = study.ask()
        params = {axis.field: axis.suggest(trial) for axis in axes}
        shown = ", ".join(f"{field} {_text(value)}" for field, value in params.items())
        say(f"trial {len(finished(study)) + 1} of {total}: {shown}")
        try:
            scores = run_trial(args, params)
        except UserError as error:
            trial.set_user_attr("error", str(error))
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            say(f"  failed: {error}")
            continue
        trial.set_user_attr("scores", scores)
        study.tell(trial, statistics.fmean(scores))
        say(f"  {args.metric} {_score(scores)}")
    return study


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _score(scores: Sequence[float]) -> str:
    spread = f" +- {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    return f"{statistics.fmean(scores):.2f}{spread} %"


def report(study: optuna.Study, axes: Sequence[Axis], args: argparse.Namespace) -> str:
    """Writes ``sweep.csv``, ``sweep.md`` and ``sweep.png``; returns the table and the best trial's command."""
    from jaxvision.files import replace_file, replace_text

    trials = finished(study)
    good = sorted((t for t in trials if "scores" in t.user_attrs), key=lambda t: -t.value)
    lines = ["| " + " | ".join([*(a.field for a in axes), args.metric]) + " |", "|---" * (len(axes) + 1) + "|"]
    for trial in good:
        values = [_text(trial.params[a.field]) for a in axes]
        lines.append("| " + " | ".join([*values, _score(trial.user_attrs["scores"])]) + " |")
    for trial in trials:
        if "error" in trial.user_attrs:
            lines.append("| " + " | ".join([*(_text(trial.params[a.field]) for a in axes), "failed"]) + " |")
    table = "\n".join(lines)
    text = io.StringIO(newline="")
    rows = [[*(t.params[a.field] for a in axes), t.value, *t.user_attrs["scores"]] for t in good]
    csv.writer(text, lineterminator="\n").writerows([[*(a.field for a in axes), "mean", "scores"], *rows])
    replace_text(args.workdir / "sweep.csv", text.getvalue())
    replace_text(args.workdir / "sweep.md", table + "\n")
    if good:
        replace_file(args.workdir / "sweep.png", lambda path: plot(good, axes, args.metric, path))
        best = ["--config", args.config, *args.fixed, *flags(good[0].params)]
        table += f"\n\nbest: python -m jaxvision.main {shlex.join(best)}"
    return table


def plot(trials: Sequence[optuna.trial.FrozenTrial], axes: Sequence[Axis], metric: str, path: Path) -> None:
    """Draws the metric against each searched field, with the standard deviation over the folds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(axes), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, panel in zip(axes, figure.subplots(1, len(axes), squeeze=False)[0], strict=True):
        x = [t.params[axis.field] for t in trials]
        spread = [statistics.stdev(s) if len(s := t.user_attrs["scores"]) > 1 else 0.0 for t in trials]
        places = [axis.values.index(v) for v in x] if axis.kind == "choice" else x
        panel.errorbar(places, [t.value for t in trials], spread, fmt="o", capsize=3)
        if axis.kind == "choice":
            panel.set_xticks(range(len(axis.values)), axis.values)
        elif axis.kind == "log":
            panel.set_xscale("log")
        panel.set(xlabel=axis.field, ylabel=f"{metric} %")
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=110, format="png")


def parse_args(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[Axis]]:
    """The arguments and the searched fields; what starts with ``--config.`` goes to every run.

    Raises:
      UserError: values that make no sense.
    """
    parser = command_line.parser(__doc__)
    parser.add_argument("--config", required=True, help="a config file, as for jaxvision.main")
    parser.add_argument("--workdir", type=Path, required=True, help="of the search; the same one resumes it")
    parser.add_argument("--search", action="append", required=True, metavar="FIELD=SPEC", help="may be repeated")
    parser.add_argument("--trials", type=int, default=20, help="for tpe and random (20)")
    parser.add_argument("--folds", type=int, default=0, help="cross-validation with so many folds; 0: evaluation split")
    parser.add_argument("--metric", choices=METRICS, default="ema_top1")
    parser.add_argument("--sampler", choices=["tpe", "random", "grid"], default="tpe", help="grid: all choices")
    parser.add_argument("--seed", type=int, default=0)
    args, rest = parser.parse_known_args(argv)
    if unknown := [text for text in rest if not text.startswith("--config.") or "=" not in text]:
        parser.error(f"unknown arguments: {' '.join(unknown)}; config fields are --config.FIELD=VALUE")
    args.fixed = rest
    axes = [parse_axis(text) for text in args.search]
    if args.folds == 1 or args.folds < 0 or args.trials < 1:
        command_line.fail("--folds needs at least 2 folds (or 0 for none), --trials at least 1")
    if args.sampler == "grid" and any(a.kind != "choice" for a in axes):
        command_line.fail("--sampler grid needs FIELD=choice:A,B,C for every field")
    if twice := [f for f, group in itertools.groupby(sorted(a.field for a in axes)) if len(list(group)) > 1]:
        command_line.fail(f"--search names {', '.join(twice)} twice")
    return args, axes


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status."""
    return command_line.run(run, argv)


def run(argv: Sequence[str] | None) -> int:
    """Searches, resuming what is there, and reports."""
    args, axes = parse_args(argv)
    from jaxvision.errors import require

    require("sweep", "optuna")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    check_fields(args.config, args.fixed, axes, args.folds)
    try:
        study = search(args, axes, lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        print("\ninterrupted; the same command resumes", file=sys.stderr)
        return 130
    print("\n" + report(study, axes, args))
    print(f"\nin {args.workdir}: sweep.md, sweep.csv, sweep.png, sweep.db, trials/")
    return 0


if __name__ == "__main__":
    command_line.start(main)
