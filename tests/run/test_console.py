"""What a run shows: plain lines in a pipe, a readable display on terminals of any width."""

import re
import time
import warnings

import numpy as np
import pytest
import terminal

from jaxvision.run.console import Console, notes, parameter_table

TRAIN = {"loss": 6.90871, "accuracy": 0.125, "learning_rate": 0.123456, "images_per_second": 1234.5}
EVAL = {"top1": 88.056, "ema_top1": 10.0, "top5": 99.17, "ema_top5": 50.0, "examples": 360.0}
HEADER = "resnetrs101, 1000 classes, 160 px; 1281167 training and 50000 evaluation images; batch 4096 on 1 cpu"


def small_run():
    """Everything a run shows, each for longer than the display's refresh: the machine may be busy."""
    console = Console(enabled=True, total=109475, per_epoch=312.8)
    console.line(HEADER)
    with console.working("compiling the train step"):
        time.sleep(1.6)
    console.stepped(20001)
    console.stepped(20002)
    console.logged(20002, TRAIN)
    time.sleep(0.6)
    console.evaluating(0, 4)
    console.evaluating(2, 4)
    time.sleep(0.6)
    console.evaluating(4, 4)
    console.evaluated(109475, EVAL | {"examples": 50000.0})
    console.warn("replaced a/folder/with/a/long/name/and/n01440764_10026.JPEG: not a complete image, 10 bytes of 20")
    console.notice("SIGTERM received: finishing the step, then saving")
    time.sleep(0.6)
    console.stepped(20003)
    console.line("interrupted, saved at step 20003")
    console.close()
    print("the end")


def in_pipe(capsys, use, **settings):
    console = Console(**({"enabled": True, "total": 1000} | settings))
    use(console)
    console.close()
    return capsys.readouterr()


def test_a_pipe_gets_one_line_a_record_without_control_codes(capsys):
    def use(console):
        with console.working("compiling the train step"):
            console.evaluating(0, 3)
        for step in (3, 4, 5):
            console.stepped(step)
        console.logged(5, TRAIN)
        console.evaluating(1, 3)
        console.evaluated(5, EVAL)
        console.resumed(5, ["seed: 1 -> 2"])
        console.warn("a disk is full")

    out, err = in_pipe(capsys, use, per_epoch=100)
    lines = out.splitlines()
    assert lines[0] == "compiling the train step ..."
    assert re.fullmatch(r"compiling the train step: done in \d+\.\d s", lines[1])
    assert re.fullmatch(
        r"step 5/1000  epoch 0\.1/10  loss 6\.9087  acc 0\.1 %  lr 0\.1235  1234 img/s  ETA \d+:\d\d:\d\d", lines[2]
    )
    assert lines[3:] == [
        "eval at step 5: top-1 88.06 % (EMA 10.00 %)  top-5 99.17 % (EMA 50.00 %)  360 images",
        "resumed from step 5",
        "  changed since the checkpoint: seed: 1 -> 2",
    ]
    assert err == "warning: a disk is full\n" and "\x1b" not in out + err


@pytest.mark.parametrize("per_epoch,shown", [(0, ""), (100, "epoch 0.5/10  "), (812.5, "epoch 0.06/1.23  ")])
def test_the_epoch_has_as_many_digits_as_a_run_needs(capsys, per_epoch, shown):
    out, _ = in_pipe(capsys, lambda console: console.logged(50, TRAIN), per_epoch=per_epoch)
    assert out.startswith(f"step 50/1000  {shown}loss")


def test_the_accuracy_on_mixed_images_says_so(capsys):
    out, _ = in_pipe(capsys, lambda console: console.logged(50, TRAIN), mixed=True)
    assert "loss 6.9087  acc 0.1 % (mixed images)  lr" in out


def test_the_time_left_follows_the_speed_after_the_first_step(capsys, monkeypatch):
    clock = iter([0.0, 100.0, 110.0, 150.0])  # created, then the steps: what came before the first is not counted
    monkeypatch.setattr("jaxvision.run.console.time.monotonic", lambda: next(clock))

    def use(console):
        for step in (1, 2, 5):
            console.stepped(step)
            console.logged(step, TRAIN)

    out, _ = in_pipe(capsys, use)
    assert re.findall(r"ETA (.*)", out) == ["?", "2:46:20", "3:27:17"]  # 998 steps of 10 s, 995 of 12.5


def test_what_is_not_finite_is_shown_as_such(capsys):
    def use(console):
        console.logged(1, TRAIN | {"loss": None, "accuracy": float("nan"), "learning_rate": float("inf")})

    out, _ = in_pipe(capsys, use)
    assert "loss nan  acc nan %  lr inf  1234 img/s" in out


def test_logits_that_are_not_finite_are_told(capsys):
    values = EVAL | {"eval_loss": 1.5, "ema_eval_loss": float("nan")}
    out, err = in_pipe(capsys, lambda console: console.evaluated(5, values))
    assert out.startswith("eval at step 5")
    assert err == "warning: logits of the EMA are NaN or infinite (eval loss nan): a NaN counts as wrong\n"
    assert in_pipe(capsys, lambda console: console.evaluated(5, values), enabled=False) == ("", "")


def test_other_processes_only_warn(capsys):
    def use(console):
        with console.working("compiling"):
            console.line("text")
        console.stepped(1)
        console.logged(1, TRAIN)
        console.evaluated(1, EVAL)
        console.resumed(1, ["x"])
        console.warn("mine")

    assert in_pipe(capsys, use, enabled=False) == ("", "warning: mine\n")


def test_unreadable_examples_are_told_once(capsys):
    console = Console(enabled=True, total=10)
    examples = {7: "a.jpg: torn"}
    told = console.skipped(examples, 0)
    examples[9] = "b.jpg: torn"
    told = console.skipped(examples, told)
    assert console.skipped(examples, told) == 2
    assert capsys.readouterr().err == "warning: replaced a.jpg: torn\nwarning: replaced b.jpg: torn\n"


def test_work_that_fails_is_not_called_done(capsys):
    console = Console(enabled=True, total=10)
    with pytest.raises(ValueError, match="boom"), console.working("compiling"):
        raise ValueError("boom")
    assert capsys.readouterr().out == "compiling ...\n"


@pytest.mark.parametrize(
    ("columns", "bar", "speed", "result"),
    [(50, False, False, 1), (60, True, False, 1), (80, True, True, 2), (120, True, True, 3)],
)
def test_a_terminal_shows_whole_words_the_epoch_and_running_timers(monkeypatch, columns, bar, speed, result):
    with terminal.attached(monkeypatch, columns) as shots:
        small_run()
    for shot in shots:
        assert all(len(line) <= columns for line in shot.splitlines()) and "…" not in shot, shot
    compiling = [shot for shot in shots if "compiling the train step ..." in shot]
    assert {re.search(r"\.\.\. +(\d:\d\d:\d\d)$", shot)[1] for shot in compiling} >= {"0:00:00", "0:00:01"}
    training = next(shot for shot in shots if "step 20002" in shot and "loss" in shot).splitlines()[-2:]
    assert re.fullmatch(r"step 20002/109475  epoch 63\.9/350 .*ETA \d+:\d\d:\d\d", training[0])
    assert ("━" in training[0]) == bar and {len(line) for line in training} == {columns}
    metrics = "loss 6.9087  acc 0.1 %  lr 0.1235" + ("  1234 img/s" if speed else "")
    assert re.fullmatch(re.escape(metrics) + r" +elapsed 0:00:\d\d", training[1])
    evaluating = next(shot for shot in shots if "evaluating 2/4" in shot).splitlines()[-1]
    assert re.fullmatch(r"evaluating 2/4  .*  0:00:\d\d", evaluating) and "━" in evaluating
    evaluated = ["eval at step 109475: top-1 88.06 % (EMA 10.00 %)", "top-5 99.17 % (EMA 50.00 %)", "50000 images"]
    assert "  ".join(evaluated[:result]) in shots[-1].splitlines()
    assert any(shot.endswith("SIGTERM received: finishing the step, then saving") for shot in shots)

    # What stays: every line once and in whole words, in order, and the display's last state.
    assert set(HEADER.split()) <= set(shots[-1].split())
    text = " ".join(shots[-1].split())
    parts = ["resnetrs101, 1000", "compiling the train step: done", "eval at step 109475:", "warning: replaced",
             "SIGTERM", "interrupted, saved", "step 20003/", "elapsed", "the end"]  # fmt: skip
    assert [text.count(part) for part in parts] == [1] * len(parts), shots[-1]
    places = [text.index(part) for part in parts]
    assert places == sorted(places) and "compiling the train step ..." not in text and "evaluating" not in text


def test_a_path_longer_than_the_terminal_stays_in_one_piece(monkeypatch):
    path = "/scratch/" + "x" * 120
    with terminal.attached(monkeypatch, 80) as shots:
        Console(enabled=True, total=1).line(f"  in {path}: all files")
    assert path in shots[-1].replace("\n", "")


def test_a_terminal_that_cannot_redraw_gets_lines(monkeypatch):
    with terminal.attached(monkeypatch, 120, term="dumb") as shots:
        console = Console(enabled=True, total=10)
        console.stepped(1)
        console.logged(1, TRAIN)
        console.close()
    assert shots[-1].startswith("step 1/10  loss 6.9087")


def test_an_error_before_anything_moves_leaves_the_terminal_alone(monkeypatch):
    with terminal.attached(monkeypatch, 80) as shots:
        Console(enabled=True, total=1)  # and never closed
    assert shots == []


def test_warnings_become_notes():
    said = []
    with notes(said.append):
        warnings.warn("adapted to 10 classes", UserWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert said == ["note: adapted to 10 classes"]


def test_the_parameter_table_adds_up():
    params = {"layer1.0": {"w": np.zeros((3, 4)), "b": np.zeros(4)}, "layer1.1": {"w": np.zeros(1200)},
              "fc": {"w": np.zeros(5)}}  # fmt: skip
    rows = [line.split() for line in parameter_table(params).splitlines()]
    assert rows == [["module", "tensors", "parameters"], ["fc", "1", "5"], ["layer1", "3", "1,216"],
                    ["total", "4", "1,221"]]  # fmt: skip


def test_a_signal_at_the_very_end_is_told_before_the_display_stops(monkeypatch):
    with terminal.attached(monkeypatch, 80) as shots:
        console = Console(enabled=True, total=10)
        console.stepped(1)
        console.notice("SIGINT received")
        console.close()
    assert [line.split()[0] for line in shots[-1].splitlines()] == ["SIGINT", "step", "elapsed"]


def test_a_signal_is_not_lost_where_nobody_reads_the_errors(monkeypatch):
    def fails(text):
        raise BrokenPipeError

    monkeypatch.setattr("jaxvision.run.console.write_notice", fails)
    Console(enabled=True, total=10).notice("SIGTERM received")
