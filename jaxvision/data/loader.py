"""Threads that turn a plan and a source into batches, a few steps ahead of the consumer."""

from __future__ import annotations

import collections
import concurrent.futures
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxvision.data.decode import UNIFORMS, Scratch, Transform, decode
from jaxvision.data.plan import PADDING, Plan
from jaxvision.data.sources import Source
from jaxvision.data.tfrecord import DataError

Batch = dict[str, np.ndarray]
_MOST_SUBSTITUTES = 100
_CHUNK = 8  # images per task: enough to hide the pool's overhead


class Interrupted(Exception):
    """The consumer asked to stop while it waited for data."""


class Loader:
    """Batches of uint8 images, in the plan's order whatever the threads do.

    Args:
      source, plan: what to read, and in which order.
      transform: from image and uniforms to a uint8 (size, size, 3) row of the batch.
      size: pixels of a side.
      threads: decoding threads; None for one per CPU core.
      ahead: batches kept in flight.
      on_corrupt: "fail" raises a :class:`DataError` that names the example; "skip" takes the
        next readable example instead (the same one in every run) and counts it in ``skipped``.
      stopped: polled while waiting; when true, iteration raises :class:`Interrupted`.
      skipped: what another loader over the same source skipped; filled further.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        transform: Transform,
        *,
        size: int,
        threads: int | None = None,
        ahead: int = 2,
        on_corrupt: str = "fail",
        stopped: Callable[[], bool] = lambda: False,
        skipped: dict[int, str] | None = None,
    ) -> None:
        if on_corrupt not in ("fail", "skip"):
            raise ValueError(f'on_corrupt must be "fail" or "skip", got {on_corrupt!r}')
        self.source, self.plan, self.transform, self.size = source, plan, transform, size
        self.threads = threads or os.cpu_count() or 1
        self.ahead, self.on_corrupt, self.stopped = ahead, on_corrupt, stopped
        self.skipped: dict[int, str] = {} if skipped is None else skipped
        self._lock = threading.Lock()
        self._scratch = Scratch()

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches of steps ``start`` to ``stop - 1``.

        Each holds image uint8 (b, size, size, 3), label int32 (b,) and mask bool (b,), which is false for padding.
        """
        pool = concurrent.futures.ThreadPoolExecutor(self.threads, thread_name_prefix="jaxvision-data")
        pending: collections.deque[tuple[Batch, list[concurrent.futures.Future]]] = collections.deque()
        try:
            step = start
            while step < stop or pending:
                while step < stop and len(pending) < self.ahead:
                    pending.append(self._submit(pool, step))
                    step += 1
                batch, tasks = pending.popleft()
                for task in tasks:
                    self._wait(task)
                yield batch
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, pool: concurrent.futures.ThreadPoolExecutor, step: int) -> tuple[Batch, list]:
        ids = self.plan.ids(step)
        uniforms = self.plan.uniforms(step, UNIFORMS) if self.plan.train else None
        # A fresh buffer every step: device_put may alias it.
        batch = {
            "image": np.zeros((len(ids), self.size, self.size, 3), np.uint8),
            "label": np.zeros(len(ids), np.int32),
            "mask": ids != PADDING,
        }

        def fill(first: int) -> None:
            for row in range(first, min(first + _CHUNK, len(ids))):
                if ids[row] != PADDING:
                    u = None if uniforms is None else uniforms[row]
                    batch["label"][row] = self._example(int(ids[row]), u, batch["image"][row])

        return batch, [pool.submit(fill, first) for first in range(0, len(ids), _CHUNK)]

    def _wait(self, task: concurrent.futures.Future) -> None:
        while True:
            if self.stopped():
                raise Interrupted
            try:
                # Short waits: a signal handler runs between them, and sets what `stopped` reads.
                return task.result(timeout=0.2)
            except concurrent.futures.TimeoutError:
                if task.done():
                    raise

    def _example(self, index: int, uniforms: np.ndarray | None, out: np.ndarray) -> int:
        """Fills one row and returns the label."""
        for offset in range(_MOST_SUBSTITUTES):
            chosen = (index + offset) % len(self.source)
            try:
                raw, label = self.source.read(chosen)
                image = raw if isinstance(raw, np.ndarray) else decode(raw, self._scratch)
            except Exception as error:  # whatever a damaged record raises, the example is what matters
                message = f"example {chosen} ({self.source.where(chosen)}): {error}"
                if self.on_corrupt == "fail":
                    raise DataError(
                        f"{message}. Fix the file, or set --config.data.on_corrupt=skip to replace such examples."
                    ) from error
                with self._lock:
                    self.skipped.setdefault(chosen, message)
                continue
            self.transform(image, uniforms, out)
            return label
        raise DataError(f"{_MOST_SUBSTITUTES} unreadable examples in a row from {self.source.where(index)}")


def prefetch(batches: Iterator[Batch], put: Callable[[Batch], Any], depth: int) -> Iterator[Any]:
    """``put(batch)`` for each batch, with ``depth`` of them on the device before the first is used.

    Transfers are asynchronous, so the copy of one batch overlaps the step of the one before.
    """
    queue: collections.deque[Any] = collections.deque()
    for batch in batches:
        queue.append(put(batch))
        if len(queue) > depth:
            yield queue.popleft()
    yield from queue
