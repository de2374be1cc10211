"""Signals set a flag and a status; the watchdog ends what hangs, and only that."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import jax
import pytest

from jaxvision.run.preemption import Preemption, Watchdog

MESSAGE = "{} received: finishing the step, then saving"


def send(number):
    os.kill(os.getpid(), number)  # Python calls the handler before the next statement


@pytest.fixture(autouse=True)
def _in_a_terminal():
    """Not under nohup, where SIGHUP is ignored."""
    earlier = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, earlier)


@pytest.fixture
def preemption():
    handler = Preemption()
    handler.said = []
    handler.say = handler.said.append
    yield handler
    handler.close()


def test_without_a_signal_nothing_stops(preemption):
    assert not preemption.stopped() and not preemption.stop_at(7)
    assert preemption.signal is None and preemption.said == []


@pytest.mark.parametrize("number,status", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_stops_the_run_after_the_step(preemption, number, status):
    send(number)
    assert preemption.stopped() and preemption.stop_at(7) and preemption.stop_at(8)
    assert preemption.exit_status() == status
    assert preemption.said == [MESSAGE.format(number.name)]


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_ctrl_c_after_a_signal_leaves_at_once(preemption, first):
    send(first)
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    assert preemption.exit_status() == 128 + first


def test_a_second_sigterm_still_waits_for_the_save(preemption):
    send(signal.SIGINT)
    send(signal.SIGTERM)
    assert preemption.stopped() and preemption.exit_status() == 143


def test_the_message_goes_past_python_s_buffers(capfd):
    preemption = Preemption()
    send(signal.SIGTERM)
    preemption.close()
    assert capfd.readouterr().err == f"\n{MESSAGE.format('SIGTERM')}\n"


def test_close_gives_the_signals_back():
    calls = []
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    earlier = {n: signal.signal(n, lambda number, frame: calls.append(number)) for n in numbers}
    try:
        preemption = Preemption()
        preemption.close()
        for number in numbers:
            send(number)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    assert calls == list(numbers) and not preemption.stopped()


def test_under_nohup_a_closed_terminal_stops_nothing():
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        preemption = Preemption()
        send(signal.SIGHUP)
        assert not preemption.stopped()
        preemption.close()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, earlier)


@pytest.fixture
def notifier(monkeypatch):
    """JAX's notifier of several processes: owns SIGTERM, and lets all stop at step 3. Lists the signals it got."""
    from jax.experimental import multihost_utils

    got = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda step: step == 3)
    earlier = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    yield got
    signal.signal(signal.SIGTERM, earlier)


def test_several_processes_stop_at_the_step_that_jax_s_notifier_names(notifier, preemption):
    send(signal.SIGTERM)
    assert notifier == [signal.SIGTERM] and preemption.said == []
    assert [preemption.stop_at(step) for step in (1, 2, 3)] == [False, False, True]
    # That step is agreed on; nothing else may stop one process alone.
    assert not preemption.stopped() and preemption.exit_status() == 143


@pytest.mark.parametrize("number,status", [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_several_processes_hear_of_other_signals_in_one(notifier, preemption, number, status):
    send(number)
    assert notifier == [signal.SIGTERM] and preemption.said == [MESSAGE.format(number.name)]
    assert [preemption.stop_at(step) for step in (2, 3)] == [False, True] and preemption.exit_status() == status
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def watchdog(seconds, code):
    """A process in which ``dog`` watches; the watchdog ends the whole process, so it needs one of its own."""
    head = f"import time; from jaxvision.run.preemption import Watchdog; dog = Watchdog({seconds})\n"
    command = [sys.executable, "-c", head + textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_hung_run_ends_with_its_stack_and_a_fed_one_goes_on():
    done = watchdog(
        2.0,
        """
        def hang():
            time.sleep(100)
        for _ in range(12):
            dog.feed()
            time.sleep(0.25)
        print("fed for three seconds", flush=True)
        hang()
    """,
    )
    assert done.returncode == 1 and done.stdout == "fed for three seconds\n"
    assert "Timeout (0:00:02)" in done.stderr and "in hang" in done.stderr


def test_before_that_it_says_what_is_waited_for():
    dog, said = Watchdog(3.0), []
    dog.warn = said.append
    dog.feed()
    for step in range(3):
        dog.waits_for(f"the images of step {step}")
        dog.feed()
        time.sleep(0.2)
    assert not said  # each feed starts the time again
    deadline = time.monotonic() + 2.5
    while not said and time.monotonic() < deadline:
        time.sleep(0.05)
    dog.close()
    assert len(said) == 1
    assert re.match(r"nothing has been finished for \d s, waiting for the images of step 2; after 3 s the run", said[0])


def test_a_closed_watchdog_and_one_of_no_seconds_never_fire():
    done = watchdog(
        0.2,
        """
        dog.feed()
        dog.close()
        Watchdog(0).feed()
        time.sleep(0.8)
        print("alive")
    """,
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_closing_a_watchdog_that_was_never_fed_is_no_error():
    Watchdog(5.0).close()
