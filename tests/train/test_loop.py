"""The program as a user runs it: learning, resuming, interruptions, devices, processes."""

import csv
import json
import re
import signal
import socket
import subprocess
import sys
import time

import cli
import numpy as np
import pytest
from PIL import Image

from jaxvision.run.records import COLUMNS

pytestmark = pytest.mark.program


@pytest.fixture(scope="session")
def reference(digits_dir, tmp_path_factory):
    """An uninterrupted run on one device."""
    workdir = tmp_path_factory.mktemp("reference")
    status, output = cli.run(cli.arguments(workdir, digits_dir))
    assert status == 0, output
    return workdir, output


def assert_equals_reference(workdir, reference):
    assert cli.state_table(workdir, 24) == cli.state_table(reference[0], 24)
    assert cli.records(workdir) == cli.records(reference[0])


def test_what_a_run_shows_and_leaves_behind(reference):
    workdir, output = reference
    assert re.search(r"resnet10t, 10 classes, 32 px, float32; 1437 training and 360 evaluation images", output)
    assert re.search(r"layer4 +\d+ +[\d,]+\n(.*\n)*total +\d+ +4,9", output)
    assert re.search(r"step 24/24  epoch 1\.07/1\.07  loss [\d.]+  acc [\d.]+ %  lr [\d.e-]+ .* ETA 0:00:00", output)
    assert "finished at step 24" in output and "eval at step 24: top-1" in output and "360 images" in output
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
    truth = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    rows = list(csv.DictReader((workdir / "metrics.csv").read_text().splitlines()))
    assert len(rows) == len(truth)
    for row, record in zip(rows, truth, strict=True):
        for column in COLUMNS:
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
                         ("eval at step 12", signal.SIGKILL), ("step 18/", signal.SIGINT)):  # fmt: skip
        process = cli.start(args)
        cli.wait_for(process, text)
        process.send_signal(number)
        rest = process.communicate(timeout=120)[0]
        assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), rest
        if number != signal.SIGKILL:
            assert re.search(r"interrupted, saved at step \d+; the same command resumes", rest)
    status, output = cli.run(args)
    assert status == 0 and "resumed from step 1" in output, output
    assert_equals_reference(tmp_path, reference)
    # Once more: nothing is left to do, nothing changes.
    status, output = cli.run(args)
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
        "t.evaluate = interrupted\n"
        "from jaxvision.main import main; sys.exit(main(sys.argv[1:]))"
    )
    args = cli.arguments(tmp_path, digits_dir)
    result = subprocess.run([sys.executable, "-c", code, *args], env=cli.environment(), capture_output=True, text=True)
    assert result.returncode == 143 and "saved at step 12" in result.stdout, result.stdout + result.stderr
    assert ("eval", 12) not in [(r["kind"], r["step"]) for r in cli.records(tmp_path)]
    status, output = cli.run(args)
    assert status == 0, output
    assert_equals_reference(tmp_path, reference)


def test_one_to_eight_devices_and_back(digits_dir, reference, tmp_path):
    """A checkpoint restores on another number of devices; evaluation counts and scores the same on 1 and 8."""
    status, output = cli.run(cli.arguments(tmp_path, digits_dir, steps=12))
    assert status == 0, output
    before = cli.state_table(tmp_path, 12)
    evaluations = []
    for devices in (1, 8):
        status, output = cli.run(cli.arguments(tmp_path, digits_dir, mode="eval"), devices)
        assert status == 0, output
        evaluations.append(json.loads((tmp_path / "evaluation.json").read_text()))
    assert evaluations[0]["examples"] == 360 and evaluations[0]["step"] == 12
    for key in ("examples", "top1", "top5", "ema_top1", "ema_top5"):
        assert evaluations[0][key] == evaluations[1][key], key
    status, output = cli.run(cli.arguments(tmp_path, digits_dir, steps=14), devices=8)
    assert (
        status == 0 and "resumed from step 12" in output and "changed since the checkpoint: steps: 12 -> 14" in output
    )
    assert cli.state_table(tmp_path, 12) == before  # still there, unchanged
    status, output = cli.run(cli.arguments(tmp_path, digits_dir, steps=15))
    assert status == 0 and "resumed from step 14" in output, output


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def two_processes(workdir, data, **overrides):
    port = free_port()
    common = {"distributed__coordinator": f"localhost:{port}", "distributed__processes": 2, **overrides}
    return [cli.start(cli.arguments(workdir, data, distributed__process=i, **common)) for i in range(2)]


def test_two_processes_equal_one_with_two_devices(digits_dir, tmp_path):
    status, output = cli.run(cli.arguments(tmp_path / "one", digits_dir, steps=8), devices=2)
    assert status == 0, output
    processes = two_processes(tmp_path / "two", digits_dir, steps=8)
    outputs = [p.communicate(timeout=300)[0] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    one, two = cli.records(tmp_path / "one"), cli.records(tmp_path / "two")
    assert len(one) == len(two) == 4
    for a, b in zip(one, two, strict=True):
        for key in a:
            # The order of a reduction across processes differs in the last bits.
            assert (
                a[key] == b[key] if isinstance(a[key], str) else abs(a[key] - b[key]) <= 2e-4 * max(abs(a[key]), 1)
            ), key


def test_a_lost_peer_ends_the_run_and_names_host_and_step(digits_dir, tmp_path):
    processes = two_processes(tmp_path, digits_dir, steps=5000, eval__every_epochs=1000, checkpoint__every_steps=0)
    cli.wait_for(processes[0], "step 6/")
    processes[1].kill()
    began = time.monotonic()
    rest = processes[0].communicate(timeout=60)[0]
    assert time.monotonic() - began < 30
    assert processes[0].returncode not in (0, None)
    assert re.search(r"error: process 0 at step \d+ lost another process", rest), rest[-2000:]
    processes[1].communicate()
