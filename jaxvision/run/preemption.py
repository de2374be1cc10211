"""Signals: finish the step, save, leave; and the watchdog for a run that hangs."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from types import FrameType

import jax


class Preemption:
    """Sets a flag on SIGTERM or Ctrl-C. A second Ctrl-C leaves at once.

    With several processes JAX's own notifier agrees on the step (``stop_at``), and it,
    not this class, must own SIGTERM: the handler installed last makes the other blind.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._distributed = jax.process_count() > 1
        self._old: dict[int, object] = {}
        for number in (signal.SIGINT,) if self._distributed else (signal.SIGTERM, signal.SIGINT):
            self._old[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        os.write(2, f"\n{signal.Signals(number).name} received: finishing the step, then saving\n".encode())

    def stopped(self) -> bool:
        """Whether this process was asked to stop; safe to poll anywhere outside collective work."""
        return self.signal is not None and not self._distributed

    def stop_at(self, step: int) -> bool:
        """Whether to save and leave after ``step``; the same answer in every process."""
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
        """Puts the earlier handlers back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)


class Watchdog:
    """Prints every thread's stack and ends the process when no step finishes for ``seconds`` (0: never)."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def feed(self) -> None:
        """Starts the countdown anew."""
        if self.seconds:
            faulthandler.dump_traceback_later(self.seconds, exit=True, file=sys.__stderr__)

    def close(self) -> None:
        """Stops the countdown."""
        faulthandler.cancel_dump_traceback_later()
