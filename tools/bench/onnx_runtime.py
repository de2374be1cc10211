"""ONNX Runtime's side of a measurement: the file of tools/export.py, run on all cores of a CPU."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from tools.bench import worker


class OnnxRuntime:
    """A session with the model that jaxvision exports; see :class:`tools.bench.worker.Jax` for the other sides."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.count = args, 0

    def setup(self) -> dict[str, Any]:
        import jax
        import onnxruntime

        import jaxvision
        from jaxvision.inference import onnx
        from jaxvision.inference.export import ImageInput

        args = self.args
        began = time.perf_counter()
        model = jaxvision.create_model(
            args.model, key=jax.random.key(0), num_classes=worker.CLASSES, image_size=args.size
        )
        content = onnx.to_onnx(jaxvision.fuse(model), ImageInput(size=(args.size, args.size)))
        built = time.perf_counter() - began
        self.images = [images for images, _ in worker.inputs(args.batch, args.size)]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 1
        began = time.perf_counter()
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.run(1)
        seconds = time.perf_counter() - began
        version = f"onnxruntime {onnxruntime.__version__}"
        return {"device": "cpu", "version": version, "build_s": built, "compile_s": seconds}

    def run(self, calls: int) -> float:
        from jaxvision.inference.onnx import INPUT, OUTPUT

        began = time.perf_counter()
        for _ in range(calls):
            self.count += 1
            self.session.run([OUTPUT], {INPUT: self.images[self.count % worker.BUFFERS]})
        return time.perf_counter() - began

    def memory(self) -> dict[str, Any]:
        return {"host_peak": worker.peak_host_memory()}
