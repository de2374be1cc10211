"""One side of a measurement of ``tools/bench/main.py``: a process that builds one model one way and runs it on request.

Commands are JSON lines on stdin: {"op": "setup"}, {"op": "run", "calls": n}, {"op": "memory"}, {"op": "kernels",
"calls": n}; each is answered with a line on stdout. Each side and model has a process to itself, so that neither
framework holds the other's memory.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from tools.bench.hlo import kernels
from tools.bench.kernels import jax_kernels, torch_kernels

BUFFERS = 4  # different inputs, used in turn, so that caches do not hold them
SIZE = 224
CLASSES = 1000
# torch.compile's modes: with CUDA graphs, and with kernels chosen by trial, which takes minutes.
COMPILE = {"graph": "reduce-overhead", "autotune": "max-autotune"}


def inputs(batch: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of normalised images, float32 (batch, size, size, 3), and labels, int32 (batch,)."""
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal((batch, size, size, 3), np.float32), rng.integers(0, CLASSES, batch).astype(np.int32))
        for _ in range(BUFFERS)
    ]


def peak_host_memory() -> int:
    """The largest number of bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Waits until no other worker is inside: XLA times a GPU's kernels to choose, which others disturb."""
    with (Path(tempfile.gettempdir()) / "jaxvision-bench.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Jax:
    """jaxvision's side: a jitted model or ``jaxvision.compile``, and the training step of ``tools/bench/models.py``."""

    def __init__(self, args: argparse.Namespace) -> None:
        import jax

        self.jax, self.args = jax, args

    def setup(self) -> dict[str, Any]:
        from jaxvision.ops.backend import as_xla_computes

        with exclusive(), as_xla_computes() if "portable" in self.args.variant else contextlib.nullcontext():
            return self._setup()

    def _setup(self) -> dict[str, Any]:
        import jax.numpy as jnp

        import jaxvision
        from jaxvision.ops.process import run_one_at_a_time
        from jaxvision.ops.program import compiler_options

        jax, args = self.jax, self.args
        if args.mode == "train":
            run_one_at_a_time()  # as jaxvision.main does
        began = time.perf_counter()
        model = jaxvision.create_model(
            args.model, key=jax.random.key(0), num_classes=CLASSES, image_size=args.size, dtype=jnp.dtype(args.dtype)
        )
        fixed = [jax.device_put(pair) for pair in inputs(args.batch, args.size)]
        built = time.perf_counter() - began
        flops = self._forward_flops(model, fixed[0][0])
        began = time.perf_counter()
        if args.mode == "infer" and "compiled" in args.variant:
            fusion = {"xla_gpu_experimental_enable_conv_fusion": True} if "fusion" in args.variant else {}
            compiled = jaxvision.compile(model, compiler_options=fusion)
            program = compiled.lower(fixed[0][0]).compile()
            self.call: Callable[[int], Any] = lambda i: compiled(fixed[i % BUFFERS][0])
        elif args.mode == "infer":
            program = jax.jit(lambda model, x: model(x)).lower(model, fixed[0][0]).compile()
            self.call = lambda i: program(model, fixed[i % BUFFERS][0])
        else:
            from tools.bench.models import training

            state, train = training(model)
            holder = [jax.device_put(state)]
            options = compiler_options(attends=model.module.attends, train=True)  # as jaxvision.main compiles it
            program = jax.jit(train, donate_argnums=0, compiler_options=options).lower(holder[0], *fixed[0]).compile()

            def step(i: int) -> Any:
                holder[0], _ = program(holder[0], *fixed[i % BUFFERS])
                return holder[0].step

            self.call = step
        seconds = time.perf_counter() - began
        self.program, self.count = program, 0
        cost = program.cost_analysis() or {}
        moved = cost.get("bytes accessed") or sum(kernel.bytes for kernel in kernels(program.as_text()))
        jax.block_until_ready(self.call(0))
        return {
            "device": jax.devices()[0].device_kind, "version": f"jax {jax.__version__}",
            "build_s": built, "compile_s": seconds, "flops": flops, "bytes": moved,
        }  # fmt: skip

    def _forward_flops(self, model: Any, images: Any) -> float | None:
        """XLA's count for the network as it is written; other implementations of a convolution do less, or more.

        None where XLA does not count before it compiles, as on a GPU.
        """
        from jaxvision.ops.backend import lower_for

        forward = self.jax.jit(lambda variables, x: model.module.apply(variables, x, train=False))
        with lower_for("tpu"):  # which has no implementations besides XLA's
            cost = forward.lower(model.variables, images).cost_analysis()
        return cost and cost["flops"]

    def run(self, calls: int) -> float:
        jax, began = self.jax, time.perf_counter()
        for _ in range(calls):
            self.count += 1
            out = self.call(self.count)
        jax.block_until_ready(out)
        return time.perf_counter() - began

    def memory(self) -> dict[str, Any]:
        analysis, stats = self.program.memory_analysis(), self.jax.local_devices()[0].memory_stats() or {}
        planned = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes + analysis.output_size_in_bytes
        return {
            "planned": planned - analysis.alias_size_in_bytes, "device_peak": stats.get("peak_bytes_in_use"),
            "host_peak": peak_host_memory(),
        }  # fmt: skip

    def kernels(self, calls: int) -> dict[str, Any]:
        return jax_kernels(self.run, calls)


class Timm:
    """timm's side, with the settings of its variant; see ``VARIANTS`` in ``tools/bench/main.py``."""

    def __init__(self, args: argparse.Namespace) -> None:
        from tools.parity.reference import timm, torch

        self.timm, self.torch, self.args = timm, torch, args
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def setup(self) -> dict[str, Any]:
        torch, args = self.torch, self.args
        variant = args.variant.split("+")
        torch.manual_seed(0)
        if self.device.type == "cpu":
            torch.set_num_threads(os.cpu_count() or 1)
        else:
            torch.backends.cudnn.benchmark = True
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        began = time.perf_counter()
        sized = {"img_size": args.size} if self._takes_size() else {}
        model = self.timm.create_model(args.model, num_classes=CLASSES, **sized)
        model = model.to(self.device, memory_format=torch.channels_last)
        fixed = [
            (
                torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(self.device, memory_format=torch.channels_last),
                torch.from_numpy(y).long().to(self.device),
            )
            for x, y in inputs(args.batch, args.size)
        ]
        low = args.dtype == "bfloat16"
        cast: Callable[[], Any] = functools.partial(
            torch.autocast, self.device.type, dtype=torch.bfloat16, enabled=low and "pure" not in variant
        )
        if low and "pure" in variant:
            model = model.to(torch.bfloat16)
            fixed = [(x.to(torch.bfloat16), y) for x, y in fixed]
        model.train(args.mode == "train")
        forward: Any = model
        if "compile" in variant:
            # Folds batch normalisation, as jaxvision.fuse does.
            torch._inductor.config.freezing = args.mode == "infer"
            forward = torch.compile(model, mode=next((COMPILE[v] for v in variant if v in COMPILE), "default"))
        built = time.perf_counter() - began
        self.call = self._infer(forward, fixed, cast) if args.mode == "infer" else self._train(forward, fixed, cast)
        began = time.perf_counter()
        self.call(0)
        self._wait()
        seconds = time.perf_counter() - began
        if "graph" in variant and "compile" not in variant:
            self._capture(fixed)
        self.count = 0
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        version = f"torch {torch.__version__}, timm {self.timm.__version__}"
        return {"device": name, "version": version, "build_s": built, "compile_s": seconds}

    def _takes_size(self) -> bool:
        return any(part in self.args.model for part in ("vit", "deit", "swin"))

    def _infer(self, forward: Any, fixed: list, cast: Callable[[], Any]) -> Callable[[int], Any]:
        def call(i: int) -> Any:
            with self.torch.inference_mode() if "compile" not in self.args.variant else self.torch.no_grad(), cast():
                return forward(fixed[i % BUFFERS][0])

        return call

    def _train(self, forward: Any, fixed: list, cast: Callable[[], Any]) -> Callable[[int], Any]:
        from tools.bench.models import DECAY, MOMENTUM, RATE

        torch = self.torch
        model = getattr(forward, "_orig_mod", forward)
        groups = [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": DECAY},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        fused = {"fused": True} if self.device.type == "cuda" else {"foreach": True}
        optimizer = torch.optim.SGD(groups, lr=RATE, momentum=MOMENTUM, **fused)

        def call(i: int) -> Any:
            x, y = fixed[i % BUFFERS]
            with cast():
                loss = torch.nn.functional.cross_entropy(forward(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return call

    def _capture(self, fixed: list) -> None:
        torch, call = self.torch, self.call
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for i in range(3):
                call(i)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        static = fixed[0][0].clone()
        original, fixed[0] = fixed[0], (static, fixed[0][1])
        with torch.cuda.graph(graph):
            call(0)
        fixed[0] = original

        def replay(i: int) -> None:
            static.copy_(fixed[i % BUFFERS][0])
            graph.replay()

        self.call = replay

    def _wait(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def run(self, calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            self.count += 1
            self.call(self.count)
        self._wait()
        return time.perf_counter() - began

    def memory(self) -> dict[str, Any]:
        peak = self.torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None
        return {"device_peak": peak, "host_peak": peak_host_memory()}

    def kernels(self, calls: int) -> dict[str, Any]:
        return torch_kernels(self.run, calls)


class Rates:
    """The device's limits as JAX reaches them: the rates of a matmul and of a copy."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.dtype = args.dtype

    def setup(self) -> dict[str, Any]:
        import jax
        import jax.numpy as jnp

        def best(program: Any, *arguments: Any) -> float:
            jax.block_until_ready(program(*arguments))
            times = []
            for _ in range(10):
                began = time.perf_counter()
                jax.block_until_ready(program(*arguments))
                times.append(time.perf_counter() - began)
            return min(times)

        cpu = jax.default_backend() == "cpu"
        n, dtype = (2048 if cpu else 8192), jnp.dtype(self.dtype)
        a = jax.random.normal(jax.random.key(0), (n, n), dtype)
        b = jax.random.normal(jax.random.key(1), (n, n), dtype)
        matmul = best(jax.jit(lambda a, b: jnp.dot(a, b, preferred_element_type=dtype)), a, b)
        big = jnp.ones(((1 << 26) if cpu else (1 << 29),), jnp.float32)
        copy = best(jax.jit(lambda x: x + 1), big)
        return {"flops_per_s": 2 * n**3 / matmul, "bytes_per_s": 2 * big.nbytes / copy, "dtype": str(dtype)}


def end_with(parent: int) -> None:
    """Ends this process once its parent is another: a killed benchmark must not leave workers that hold the device."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> int:
    """Answers commands until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["jaxvision", "timm", "onnx", "rates"])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--mode", choices=["infer", "train"], default="infer")
    parser.add_argument("--variant", default="plain")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--parent", type=int, help="the process for which this one works, and with which it ends")
    args = parser.parse_args()
    if args.parent is not None:
        threading.Thread(target=end_with, args=(args.parent,), daemon=True).start()
    # Answers keep stdout for themselves: compilers print.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if "keep" in args.variant:
        # Of the process, whatever runs in it: it must come before either framework starts its threads.
        from jaxvision.ops.process import keep_memory

        keep_memory()
    from tools.bench.onnx_runtime import OnnxRuntime

    side = {"jaxvision": Jax, "timm": Timm, "onnx": OnnxRuntime, "rates": Rates}[args.side](args)
    for line in sys.stdin:
        command = json.loads(line)
        operation = command.pop("op")
        try:
            answer = {"result": getattr(side, operation)(**command)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
