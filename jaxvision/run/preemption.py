"""What signals do: the run finishes its step, saves and exits; and the watchdog that ends a run that hangs.

The handlers here only set a flag. The loop (``jaxvision/train/loop.py``) asks for it after every step, saves a
checkpoint and returns the exit status 143 (SIGTERM), 130 (Ctrl-C, SIGINT) or 129 (a closed terminal, SIGHUP).
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import jax


class Preemption:
    """Remembers a signal, so that the loop can finish its step and save; a second Ctrl-C exits at once.

    Where SIGHUP is ignored at the start, as under ``nohup``, it stays ignored. With several processes JAX's preemption
    notifier makes all of them agree on the step (``stop_at``). It must own SIGTERM, because of two handlers only the
    one installed last is called; the other signals are passed on to it as SIGTERM.

    Attributes:
      signal: number of the received signal; None if there was none.
      say: called in the signal handler with a line for the user; it may write to no buffered stream.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.say: Callable[[str], None] = write_notice
        self._distributed = jax.process_count() > 1
        self._earlier: dict[int, object] = {}
        numbers = [signal.SIGINT] if self._distributed else [signal.SIGTERM, signal.SIGINT]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # Windows has none
            numbers.append(signal.SIGHUP)
        for number in numbers:
            self._earlier[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        self.say(f"{signal.Signals(number).name} received: finishing the step, then saving")
        if self._distributed:
            os.kill(os.getpid(), signal.SIGTERM)

    def stopped(self) -> bool:
        """Whether a run of one process was asked to stop; asks no other process, so it may be called anywhere."""
        return self.signal is not None and not self._distributed

    def stop_at(self, step: int) -> bool:
        """Whether to save and leave after ``step``; the same answer in every process, which all must call it."""
        if not self._distributed:
            return self.signal is not None
        from jax.experimental import multihost_utils

        if multihost_utils.reached_preemption_sync_point(step):
            self.signal = self.signal or signal.SIGTERM
            return True
        return False

    def exit_status(self) -> int:
        """128 + the signal's number, as shells report it."""
        return 128 + (self.signal or 0)

    def close(self) -> None:
        """Installs the earlier handlers again."""
        for number, handler in self._earlier.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not installed from Python


def end_within(seconds: float, status: int) -> None:
    """Lets a run of several processes, whose work is done and saved, end after some time at the latest.

    JAX waits for ever while it leaves the cluster, if a signal came after the last step: the process that got it asks
    the others where to stop, and they have left already.

    Args:
      seconds: from now on.
      status: the exit status then.
    """
    if jax.process_count() == 1:
        return

    def end() -> None:
        time.sleep(seconds)
        os._exit(status)

    sys.stdout.flush()
    sys.stderr.flush()
    threading.Thread(target=end, name="jaxvision-end", daemon=True).start()


def write_notice(text: str) -> None:
    """A line on the error stream, past Python's buffers: a signal may come in the middle of another write."""
    os.write(2, f"\n{text}\n".encode())


class Watchdog:
    """Ends the process with every thread's stack on the error stream where nothing calls :meth:`feed` for a while.

    After a sixth of that time it says what is being waited for.

    Args:
      seconds: how long; 0: never.

    Attributes:
      warn: called with that line in a thread.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.warn: Callable[[str], None] = write_notice
        self._fed, self._what, self._told = time.monotonic(), "the start", False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def feed(self) -> None:
        """Starts the countdown again."""
        if not self.seconds:
            return
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=sys.__stderr__)
        self._fed, self._told = time.monotonic(), False
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="jaxvision-watchdog", daemon=True)
            self._thread.start()

    def waits_for(self, what: str) -> None:
        """Names what the loop waits for from here on, such as "the images of step 7"."""
        self._what = what

    def close(self) -> None:
        """Stops the countdown."""
        faulthandler.cancel_dump_traceback_later()
        self._closed.set()

    def _watch(self) -> None:
        patience = self.seconds / 6
        while not self._closed.wait(min(patience / 4, 5.0)):
            idle = time.monotonic() - self._fed
            if idle > patience and not self._told:
                self._told = True
                self.warn(
                    f"nothing has been finished for {idle:.0f} s, waiting for {self._what}; after {self.seconds:.0f} s "
                    "the run ends (config.watchdog_seconds)"
                )
