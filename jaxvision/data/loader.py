"""Threads that read, decode and crop the examples of a plan into batches, a few steps ahead of training."""

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
from jaxvision.data.sources import Source, check_label
from jaxvision.data.tfrecord import DataError

Batch = dict[str, np.ndarray]
_MOST_SUBSTITUTES = 100
_CHUNK = 8  # images per task; with 8, the overhead of a task is negligible


class Interrupted(Exception):
    """``stopped`` became true while the consumer waited for data."""


class Loader:
    """Batches of uint8 images, in the order of the plan whatever the timing of the threads.

    Args:
      source, plan: what to read, and in which order.
      transform: crops and resizes an image into a row of the batch, uint8 (size, size, 3).
      size: side of the images, in pixels.
      uniforms: random numbers that the transform needs for a training image.
      dct_method: of JPEGs; see :func:`jaxvision.data.decode.decode`.
      threads: number of decoding threads; None for one per CPU core.
      ahead: number of batches that are prepared ahead.
      on_corrupt: what an example that cannot be read does. "fail": raise a :class:`DataError` that names it; "skip":
        use the next readable example instead (the same one in every run) and record it in ``skipped``.
      stopped: called while waiting for data; when it returns true, iteration raises :class:`Interrupted`.
      skipped: a dictionary to record skipped examples in, id to message, shared with other loaders of the same source.

    Raises:
      ValueError: ``on_corrupt`` is neither of the two.
    """

    def __init__(
        self,
        source: Source,
        plan: Plan,
        transform: Transform,
        *,
        size: int,
        uniforms: int = UNIFORMS,
        dct_method: str = "accurate",
        threads: int | None = None,
        ahead: int = 2,
        on_corrupt: str = "fail",
        stopped: Callable[[], bool] = lambda: False,
        skipped: dict[int, str] | None = None,
    ) -> None:
        if on_corrupt not in ("fail", "skip"):
            raise ValueError(f'on_corrupt must be "fail" or "skip", got {on_corrupt!r}')
        self.source, self.plan, self.transform, self.size = source, plan, transform, size
        self.uniforms, self.dct_method = uniforms, dct_method
        self.threads = threads or os.cpu_count() or 1
        self.ahead, self.on_corrupt, self.stopped = ahead, on_corrupt, stopped
        self.skipped: dict[int, str] = {} if skipped is None else skipped
        self._lock = threading.Lock()
        self._scratch = Scratch()

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches of steps ``start`` to ``stop - 1``.

        Each has "image" uint8 (b, size, size, 3), "label" int32 (b,) and "mask" bool (b,), which is false for padding.

        Raises:
          DataError: an example cannot be read and ``on_corrupt`` is "fail", or 100 in a row cannot be read.
          Interrupted: ``stopped()`` became true.
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
        uniforms = self.plan.uniforms(step, self.uniforms) if self.plan.train else None
        # A new array every step, because device_put may use its memory instead of copying.
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
                # Short waits, so that a signal handler can run in between and make `stopped` true.
                return task.result(timeout=0.2)
            except concurrent.futures.TimeoutError:
                if task.done():
                    raise

    def _example(self, index: int, uniforms: np.ndarray | None, out: np.ndarray) -> int:
        """Writes the example, or the next readable one, into ``out`` (size, size, 3), and returns its label."""
        for offset in range(_MOST_SUBSTITUTES):
            chosen = (index + offset) % len(self.source)
            try:
                raw, label = self.source.read(chosen)
                check_label(label, self.source.num_classes)
                image = raw if isinstance(raw, np.ndarray) else decode(raw, self._scratch, dct_method=self.dct_method)
                self.transform(image, uniforms, out)
            except Exception as error:  # a damaged record may raise anything; the message names the example
                message = f"example {chosen} ({self.source.where(chosen)}): {error}"
                if self.on_corrupt == "fail":
                    raise DataError(
                        f"{message}. Fix or remove the file; `jaxvision verify-data` lists all. In training, "
                        "--config.data.on_corrupt=skip replaces such examples."
                    ) from error
                with self._lock:
                    self.skipped.setdefault(chosen, message)
                continue
            return label
        raise DataError(f"{_MOST_SUBSTITUTES} unreadable examples in a row from {self.source.where(index)}")


def prefetch(batches: Iterator[Batch], put: Callable[[Batch], Any], depth: int) -> Iterator[Any]:
    """``put(batch)`` for each batch, called for ``depth`` batches ahead of the one that is used.

    Transfers to a device are asynchronous, so a batch is copied while the step of the previous one runs.
    """
    queue: collections.deque[Any] = collections.deque()
    for batch in batches:
        queue.append(put(batch))
        if len(queue) > depth:
            yield queue.popleft()
    yield from queue
