"""How a run can end: having learned, diverged, hung; and the trace it can write."""

import re
import subprocess
import sys

import cli
import pytest

pytestmark = pytest.mark.program


def test_a_small_network_learns_the_digits(digits_dir, tmp_path):
    args = cli.arguments(tmp_path, digits_dir, steps=100, optimizer__learning_rate=0.1, eval__every_epochs=10,
                         data__train_split="train", data__eval_split="test", batch_size=64,
                         model__drop_path_rate=0.0, checkpoint__every_steps=0, log_every=20)  # fmt: skip
    status, output = cli.run(args)
    assert status == 0, output
    last = cli.records(tmp_path)[-1]
    assert last["kind"] == "eval" and min(last["top1"], last["ema_top1"]) > 90, last


def test_watchdog_prints_the_stack_of_a_hung_run(digits_dir, tmp_path):
    code = (
        "import sys, time, jaxvision.train.inputs as inputs, jaxvision.train.loop as t\n"
        "stream, made, dogs = inputs.step_stream, t.Watchdog, []\n"
        "def make(seconds):\n"
        "    dogs.append(made(seconds))\n"
        "    return dogs[-1]\n"
        "def hang(*rest):\n"
        "    for i, batch in enumerate(stream(*rest)):\n"
        "        if i == 2: dogs[0].seconds /= 30\n"  # what compiles has been waited for: the next steps are quick
        "        if i == 4: time.sleep(600)\n"
        "        yield batch\n"
        "inputs.step_stream, t.Watchdog = hang, make\n" + cli.MAIN
    )
    command = [sys.executable, "-c", code, *cli.arguments(tmp_path, digits_dir, watchdog_seconds=300)]
    result = subprocess.run(command, env=cli.environment(quick=True), capture_output=True, text=True, timeout=600)
    assert result.returncode == 1
    assert "Timeout (0:00:10)" in result.stderr and "in hang" in result.stderr and "loop.py" in result.stderr


def test_divergence_names_step_and_examples_and_keeps_the_checkpoint(digits_dir, tmp_path):
    args = cli.arguments(tmp_path, digits_dir, optimizer__learning_rate=1e6, schedule__warmup_epochs=0.4,
                         max_bad_steps=3, checkpoint__every_steps=1)  # fmt: skip
    status, output = cli.run(args, quick=True)
    assert status == 4, output
    assert re.search(r"error: 3 steps in a row \(to step \d+\) had a loss", output)
    assert len(re.findall(r"  step \d+: examples \d+, \d+, ", output)) == 3
    assert "Traceback" not in output
    newest = max(int(p.name.removeprefix("step_")) for p in (tmp_path / "checkpoints").glob("step_*"))
    assert f"The last good checkpoint is {tmp_path}/checkpoints/step_{newest}." in output
    assert f"  python -m jaxvision.main --config {tmp_path} --config.optimizer.learning_rate=500000" in output
    assert [p.name for p in (tmp_path / "checkpoints").glob("step_*")]


def test_profile_writes_a_trace(digits_dir, tmp_path):
    status, output = cli.run(cli.arguments(tmp_path, digits_dir, profile=True, eval__every_epochs=100), quick=True)
    assert status == 0, output
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
