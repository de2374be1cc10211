"""tools/sweep.py: proposes, stops, resumes, refuses mistakes, reports."""

import csv

import cli
import numpy as np
import optuna
import pytest
from PIL import Image

from jaxvision.errors import UserError
from tools import sweep

CONFIG = "configs/resnet_rs50.py:digits"
DECAY = "optimizer.weight_decay=log:1e-6:1e-3"


def command(workdir, *rest):
    return ["--config", CONFIG, "--workdir", str(workdir), *rest]


def fake(calls, stop_at=None, fail_at=None):
    """A run whose accuracy depends on its values, and which is cut off or fails at a certain call."""

    def run_trial(args, params):
        calls.append(dict(params))
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        if len(calls) == fail_at:
            raise UserError("exit status 4, somewhere: error: diverged")
        best = -abs(np.log10(float(params["optimizer.weight_decay"])) + 4)
        return [90 + best, 91 + best]

    return run_trial


def test_a_search_stops_resumes_and_reports(tmp_path, monkeypatch, capsys):
    calls, arguments = [], command(tmp_path, "--search", DECAY, "--trials", "8", "--folds", "2", "--config.seed=3")
    monkeypatch.setattr(sweep, "run_trial", fake(calls, stop_at=4, fail_at=2))
    assert sweep.main(arguments) == 130
    monkeypatch.setattr(sweep, "run_trial", fake(calls))
    assert sweep.main(arguments) == 0
    # The trial that was cut off came again, first of all; the failed one counts, and no other ran twice.
    assert calls[4] == calls[3] and len(calls) == 9
    assert len({c["optimizer.weight_decay"] for c in calls}) == 8
    output = capsys.readouterr()
    assert "interrupted; the same command resumes" in output.err
    assert "failed: exit status 4" in output.out and output.out.count("| failed |") == 1
    rows = list(csv.reader((tmp_path / "sweep.csv").read_text().splitlines()))
    assert rows[0][:2] == ["optimizer.weight_decay", "mean"] and len(rows) == 8
    assert [float(r[1]) for r in rows[1:]] == sorted((float(r[1]) for r in rows[1:]), reverse=True)
    best = max(c["optimizer.weight_decay"] for c in calls if c["optimizer.weight_decay"] == float(rows[1][0]))
    assert f"--config.seed=3 --config.optimizer.weight_decay={best}" in output.out
    assert np.asarray(Image.open(tmp_path / "sweep.png")).std() > 5
    # Again: nothing is left to do. Other fields: another search.
    assert sweep.main(arguments) == 0 and len(calls) == 9
    assert sweep.main([*arguments[:-1], "--config.seed=4"]) == 2
    assert "holds another search" in capsys.readouterr().err


def test_a_grid_visits_every_choice_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(sweep, "run_trial", fake(calls, stop_at=3))
    grid = ("--search", "optimizer.weight_decay=choice:1e-5,1e-4", "--search", "optimizer.name=choice:sgd,adamw")
    assert sweep.main(command(tmp_path, *grid, "--sampler", "grid")) == 130
    monkeypatch.setattr(sweep, "run_trial", fake(calls))
    assert sweep.main(command(tmp_path, *grid, "--sampler", "grid")) == 0
    assert len(calls) == 5 and len({tuple(sorted(c.items())) for c in calls}) == 4
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'sweep.db'}")
    assert study.best_params["optimizer.weight_decay"] == "1e-4"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--search", "optimizer.weight_dcay=log:1e-6:1e-3"], 'Did you mean "config.optimizer.weight_decay"'),
        (["--search", "optimizer.weight_decay=log:0:1"], "above 0 for log"),
        (["--search", "optimizer.weight_decay=1e-4"], "expected FIELD=log:LOW:HIGH"),
        (["--search", DECAY, "--search", DECAY], "names optimizer.weight_decay twice"),
        (["--search", DECAY, "--folds", "1"], "at least 2 folds"),
        (["--search", DECAY, "--sampler", "grid"], "needs FIELD=choice"),
        (["--search", "optimizer.name=choice:sgd,adamv"], 'Did you mean "adamw"'),
        (["--search", DECAY, "--config.epoch=3"], 'Did you mean "config.epochs"'),
    ],
)
def test_mistakes_are_told_before_the_first_trial(arguments, message, tmp_path, capsys):
    assert sweep.main(command(tmp_path / "new", *arguments)) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [b"no database " * 100, "half"])
def test_a_damaged_database_is_named(content, tmp_path, monkeypatch, capsys):
    arguments = command(tmp_path, "--search", DECAY, "--trials", "2")
    monkeypatch.setattr(sweep, "run_trial", fake([]))
    assert sweep.main(arguments) == 0
    path = tmp_path / "sweep.db"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    assert sweep.main(arguments) == 2
    assert "sweep.db is damaged" in capsys.readouterr().err


@pytest.mark.program
def test_a_real_trial_trains_on_its_folds(tmp_path, digits_dir, monkeypatch):
    for name, value in cli.environment(quick=True).items():
        monkeypatch.setenv(name, value)
    fixed = {"model.name": "resnet10t", "steps": 2, "data.dir": digits_dir, "eval.every_epochs": 100.0}
    arguments = command(
        tmp_path, "--search", "optimizer.weight_decay=choice:1e-4,1e-5", "--trials", "1", "--folds", "2"
    )
    assert sweep.main([*arguments, *(f"--config.{key}={value}" for key, value in fixed.items())]) == 0
    outputs = sorted((tmp_path / "trials").glob("*/fold_*/output.txt"))
    assert [path.parent.name for path in outputs] == ["fold_1", "fold_2"]
    assert "718 training and 719 evaluation images" in outputs[0].read_text()
    assert "719 training and 718 evaluation images" in outputs[1].read_text()
