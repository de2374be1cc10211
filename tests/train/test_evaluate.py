"""The evaluation's pace; its figures are tested where whole runs are (test_loop.py)."""

import types

import jax
import numpy as np

from jaxvision.run.preemption import Watchdog
from jaxvision.train import evaluate


def test_the_host_is_never_far_ahead_of_the_device(monkeypatch):
    """Otherwise all images are on the device at once, and Ctrl-C is heard when all of them are done."""
    steps = 9
    sums = {name: {"total": np.float32(1), "count": np.int32(steps)} for name in evaluate.EVAL_METRICS}
    queued, lengths, waits = [], [], []
    monkeypatch.setattr(evaluate.inputs, "step_stream", lambda loader, mesh, start, stop: range(start, stop))
    monkeypatch.setattr(evaluate.sharding, "replicate", lambda mesh, tree: tree)
    monkeypatch.setattr(evaluate.sharding, "fetch", lambda tree: {"raw": sums, "ema": sums})
    monkeypatch.setattr(jax, "block_until_ready", lambda batch: queued.remove(batch))

    def program(params, stats, batch, sums):
        if params == "ema":  # the second program of a batch
            queued.append(batch)
            lengths.append(len(queued))
        return batch

    class Dog(Watchdog):
        def waits_for(self, what):
            waits.append(what)

    evaluate.evaluate(
        program,
        types.SimpleNamespace(plan=types.SimpleNamespace(eval_steps=steps, num_examples=steps)),
        mesh=None,
        state=types.SimpleNamespace(params="raw", ema_params="ema", batch_stats=None, ema_batch_stats=None),
        console=types.SimpleNamespace(evaluating=lambda done, of: None),
        watchdog=Dog(0),
    )
    assert lengths == [1, 2, 3, 3, 3, 3, 3, 3, 3] and evaluate.AHEAD == 2
    assert waits[0] == "the first evaluation batch" and waits[-3:] == [
        "the images of evaluation batch 9 of 9",
        "evaluation batch 7 of 9 on the device",
        "the last evaluation batches on the device",
    ]
