"""The program as a user runs it: learning, resuming, interruptions, devices, processes."""

import csv
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import cli
import numpy as np
import pytest
from PIL import Image

from jaxvision.train.metrics import EVAL_COLUMNS, TRAIN_COLUMNS

pytestmark = pytest.mark.program


@pytest.fixture(scope="session")
def reference(digits_dir, tmp_path_factory):
    """An uninterrupted run on one device."""
    workdir = tmp_path_factory.mktemp("reference")
    command = [sys.executable, "-m", "jaxvision.main", *cli.arguments(workdir, digits_dir)]
    result = subprocess.run(command, env=cli.environment(quick=True), capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return workdir, result.stdout


def assert_equals_reference(workdir, reference):
    assert cli.state_table(workdir, 24) == cli.state_table(reference[0], 24)
    assert cli.records(workdir) == cli.records(reference[0])


def test_what_a_run_shows_and_leaves_behind(reference):
    workdir, output = reference
    assert re.search(r"resnet10t, 10 classes, 32 px, float32; 360 training and 90 evaluation images", output)
    assert re.search(r"preparing the first batch: done in .* s\ncompiling the train step ...\n", output)
    assert re.search(r"layer4 +\d+ +[\d,]+\n(.*\n)*total +\d+ +4,9", output)
    assert re.search(r"step 24/24  epoch 1\.07/1\.07  loss [\d.]+  acc [\d.]+ %  lr [\d.e-]+ .* ETA 0:00:00", output)
    assert "finished at step 24" in output and "eval at step 24: top-1" in output and "90 images" in output
    config = json.loads((workdir / "config.json").read_text())
    assert config["model"]["name"] == "resnet10t" and config["steps"] == 24
    picture = np.asarray(Image.open(workdir / "curves.png").convert("RGB"))
    assert picture.shape[0] > 300 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    steps = [(r["kind"], r["step"]) for r in cli.records(workdir)]
    trains = [3, 6, 9, 12, 15, 18, 21, 24]
    assert steps == sorted(
        [("train", s) for s in trains] + [("eval", 12), ("eval", 24)], key=lambda x: (x[1], x[0] == "eval")
    )


def test_jsonl_csv_and_tensorboard_agree_exactly(reference):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    workdir, _ = reference
    truth = cli.log_lines(workdir)
    rows = list(csv.DictReader((workdir / "metrics.csv").read_text().splitlines()))
    assert len(rows) == len(truth)
    for row, record in zip(rows, truth, strict=True):
        for column in (*TRAIN_COLUMNS, *EVAL_COLUMNS):
            value = record.get(column)
            text = row[column]
            assert text == "" if value is None else (text == value if column == "kind" else float(text) == value)
    board = EventAccumulator(str(workdir / "tensorboard"))
    board.Reload()
    seen = {(tag, e.step): e.value for tag in board.Tags()["scalars"] for e in board.Scalars(tag)}
    expected = {(f"{r['kind']}/{k}", r["step"]): v for r in truth for k, v in r.items() if k not in ("step", "kind")}
    assert seen == expected


def test_kill_minus_nine_and_sigterm_end_bit_identical(digits_dir, reference, tmp_path):
    args = cli.arguments(tmp_path, digits_dir)
    for text, number in (("step 6/", signal.SIGKILL), ("compiling", signal.SIGTERM), ("step 9/", signal.SIGTERM),
                         ("eval at step 12", signal.SIGKILL), ("step 15/", signal.SIGINT)):  # fmt: skip
        process = cli.start(args, quick=True)
        cli.wait_for(process, text)
        process.send_signal(number)
        rest = process.communicate(timeout=120)[0]
        assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), rest
        if number != signal.SIGKILL:
            assert re.search(r"interrupted, saved at step \d+; the same command resumes", rest)
    status, output = cli.run(args, quick=True)
    assert status == 0 and "resumed from step 1" in output, output
    assert_equals_reference(tmp_path, reference)
    # Once more: nothing is left to do, nothing changes.
    status, output = cli.run(args, quick=True)
    assert status == 0 and "resumed from step 24" in output
    assert_equals_reference(tmp_path, reference)


def test_sigterm_during_evaluation_makes_up_for_it(digits_dir, reference, tmp_path):
    """Interrupted between the last step and its evaluation, a run still evaluates and keeps the best."""
    code = (
        "import os, signal, sys, jaxvision.train.evaluate as e, jaxvision.train.loop as t\n"
        "original = e.evaluate\n"
        "def interrupted(program, loader, *rest):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return original(program, loader, *rest)\n"
        "t.evaluate = interrupted\n" + cli.MAIN
    )
    args = cli.arguments(tmp_path, digits_dir)
    result = subprocess.run(
        [sys.executable, "-c", code, *args], env=cli.environment(quick=True), capture_output=True, text=True
    )
    assert result.returncode == 143 and "saved at step 12" in result.stdout, result.stdout + result.stderr
    assert ("eval", 12) not in [(r["kind"], r["step"]) for r in cli.records(tmp_path)]
    status, output = cli.run(args, quick=True)
    assert status == 0, output
    assert_equals_reference(tmp_path, reference)


def test_one_to_eight_devices_and_back(digits_dir, reference, tmp_path):
    """A checkpoint restores on another number of devices; evaluation counts and scores the same on 1 and 8."""
    workdir = tmp_path / "run"
    shutil.copytree(reference[0], workdir)

    def evaluation_equals_the_runs_last(devices):
        status, output = cli.run(cli.arguments(workdir, digits_dir, mode="eval"), devices, quick=True)
        assert status == 0, output
        found, expected = json.loads((workdir / "evaluation.json").read_text()), cli.records(workdir)[-1]
        assert found["examples"] == 90 and found["step"] == expected["step"] == 24 and expected["kind"] == "eval"
        for key in ("top1", "top5", "ema_top1", "ema_top5"):
            assert np.float32(found[key]) == expected[key], key  # the records are float32

    evaluation_equals_the_runs_last(devices=8)
    before = cli.state_table(workdir, 20)
    shutil.rmtree(workdir / "checkpoints" / "step_24")
    status, output = cli.run(cli.arguments(workdir, digits_dir, max_bad_steps=9), devices=8, quick=True)
    assert status == 0 and "resumed from step 20" in output, output
    assert "changed since the checkpoint: max_bad_steps: 10 -> 9" in output
    assert cli.state_table(workdir, 20) == before  # still there, unchanged
    evaluation_equals_the_runs_last(devices=1)


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def two_processes(workdir, data, **overrides):
    port = free_port()
    common = {"distributed__coordinator": f"localhost:{port}", "distributed__processes": 2, **overrides}
    return [cli.start(cli.arguments(workdir, data, distributed__process=i, **common), quick=True) for i in range(2)]


@pytest.mark.program
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_last_step_of_two_processes_does_not_hang(number, digits_dir, tmp_path):
    """JAX waited for ever: the process that got it asked the other, which had left, where to stop."""
    processes = two_processes(tmp_path, digits_dir, steps=3, data__eval_split="test[:20]", checkpoint__every_steps=0)
    cli.wait_for(processes[0], "eval at step 3")
    processes[0].send_signal(number)
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_two_processes_equal_one_with_two_devices_and_name_a_lost_peer(digits_dir, tmp_path):
    long = {"steps": 5000, "eval__every_epochs": 0.25, "checkpoint__every_steps": 0}
    process = cli.start(cli.arguments(tmp_path / "one", digits_dir, **long), devices=2, quick=True)
    cli.wait_for(process, "step 9/")
    process.terminate()
    assert process.communicate(timeout=120)[0] and process.returncode == 128 + signal.SIGTERM

    processes = two_processes(tmp_path / "two", digits_dir, **long)
    cli.wait_for(processes[0], "step 9/")
    processes[1].kill()
    began = time.monotonic()
    rest = processes[0].communicate(timeout=60)[0]
    assert time.monotonic() - began < 30
    assert processes[0].returncode not in (0, None)
    assert re.search(r"error: process 0 at step \d+ lost another process", rest), rest[-2000:]
    processes[1].communicate()

    one, two = (cli.records(tmp_path / name)[:4] for name in ("one", "two"))
    assert [(r["kind"], r["step"]) for r in one] == [("train", 3), ("train", 6), ("eval", 6), ("train", 9)]
    for a, b in zip(one, two, strict=True):
        for key in a:
            # The order of a reduction across processes differs in the last bits.
            assert (
                a[key] == b[key] if isinstance(a[key], str) else abs(a[key] - b[key]) <= 2e-4 * max(abs(a[key]), 1)
            ), key
