"""Measures what ``jaxvision.ops`` gains: models and operations by this backend's implementations and by XLA's own.

  python tools/bench/implementations.py --models resnet50 convnext_tiny --batch-size 8 --out FILE.md

All programs run interleaved in one process; medians. "plain" is every operation as a GPU runs it, convolutions as XLA's
``conv_general_dilated``; "oneDNN" is what ``jaxvision.compile`` runs on a CPU.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from tools.bench.processor import processor
from tools.shared import command_line

if TYPE_CHECKING:
    import jax

MODELS = (
    "resnet50", "seresnext50_32x4d", "resnest50d", "efficientnet_b0", "tf_efficientnetv2_b0", "convnext_tiny",
    "swin_tiny_patch4_window7_224", "vit_small_patch16_224",
)  # fmt: skip
# name: size, channels, kernel, stride, groups
CONVOLUTIONS = {
    "1x1, 56x56x64": (56, 64, 1, 1, 1),
    "1x1 stride 2, 56x56x256": (56, 256, 1, 2, 1),
    "depthwise 3x3, 56x56x144": (56, 144, 3, 1, 144),
    "depthwise 3x3 stride 2, 112x112x96": (112, 96, 3, 2, 96),
    "depthwise 5x5, 28x28x240": (28, 240, 5, 1, 240),
    "depthwise 7x7, 28x28x192": (28, 192, 7, 1, 192),
    "32 groups of 4, 56x56x128": (56, 128, 3, 1, 32),
    "32 groups of 32, 7x7x1024": (7, 1024, 3, 1, 32),
    "2 groups, 28x28x256": (28, 256, 3, 1, 2),
    "3x3, 56x56x64": (56, 64, 3, 1, 1),
    "3x3, 28x28x128": (28, 128, 3, 1, 1),
    "3x3, 14x14x256": (14, 256, 3, 1, 1),
}


def _normalised_depthwise(x: jax.Array) -> jax.Array:
    import jax
    import jax.numpy as jnp

    from jaxvision.ops import convolution

    y = convolution.conv2d(x, jnp.full((x.shape[-1], 7, 7, 1), 0.1), padding=3, groups=x.shape[-1])
    centred = y - jnp.mean(y, -1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), -1, keepdims=True) + 1e-6)


def operations() -> dict[str, tuple[int, int, Callable[[jax.Array], jax.Array]]]:
    """Size and channels of a map, and what is done with it, by name."""
    from jaxvision.ops import pooling

    return {
        "depthwise 7x7 and layer norm, 56x56x96": (56, 96, _normalised_depthwise),
        "max pooling, 112x112x64": (112, 64, pooling.max_pool_3x3),
        "global pooling, 28x28x512": (28, 512, pooling.global_avg_pool),
    }


def interleaved(programs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each program's calls, in turn; each is called twice before, and compiled."""
    import jax

    for program in programs.values():
        jax.block_until_ready(program())
        jax.block_until_ready(program())
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program())
            times[name].append(time.perf_counter() - start)
    return times


def all_implementations(
    make: Callable[[], tuple[Callable, tuple]], options: dict[str, str], train: bool
) -> dict[str, Callable[[], Any]]:
    """The program by this backend's implementations, by XLA's, and with oneDNN where it can be used.

    Each is a new function, because JAX keeps what it has traced by the function's identity.
    """
    import jax

    from jaxvision.ops.backend import lower_for
    from jaxvision.ops.program import Inference, inference

    here = jax.default_backend()
    cases = [("ours", here, Inference()), ("plain", "gpu", Inference())]
    if not train and inference().uses_onednn:
        cases.append(("onednn", here, inference()))
    programs = {}
    for name, backend, how in cases:
        with lower_for(backend), how.tracing():
            function, arguments = make()
            compiled = how.jit(function, compiler_options=options).lower(*arguments).compile()
        programs[name] = lambda compiled=compiled, arguments=arguments: compiled(*arguments)
    return programs


def model_programs(name: str, batch: int, size: int, train: bool) -> dict[str, Callable[[], Any]]:
    """Inference (fused), or the gradient of a loss with batch statistics."""
    import jax
    import jax.numpy as jnp

    import jaxvision
    from jaxvision.ops.program import compiler_options

    model = jaxvision.create_model(name, key=jax.random.key(0), image_size=size)
    model = model if train else jaxvision.fuse(model)
    x = np.random.default_rng(0).standard_normal((batch, size, size, 3), np.float32)

    def make() -> tuple[Callable, tuple]:
        def infer(variables: Any, x: jax.Array) -> jax.Array:
            return model.module.apply(variables, x)

        def gradient(variables: Any, x: jax.Array) -> Any:
            def loss(params: Any) -> tuple[jax.Array, Any]:
                inputs = {**variables, "params": params}
                logits, new = model.module.apply(inputs, x, train=True, mutable=["batch_stats"])
                return -jnp.mean(jax.nn.log_softmax(logits)[:, 0]), new

            return jax.grad(loss, has_aux=True)(variables["params"])

        return (gradient if train else infer), (model.variables, x)

    return all_implementations(make, compiler_options(attends=model.module.attends, train=train), train)


def convolution_programs(shape: tuple[int, ...], batch: int, train: bool) -> dict[str, Callable[[], Any]]:
    """One convolution, or its two gradients."""
    import jax

    from jaxvision.ops import convolution

    size, channels, kernel, stride, groups = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, size, size, channels), np.float32)
    weight = rng.standard_normal((channels, kernel, kernel, channels // groups), np.float32)

    def make() -> tuple[Callable, tuple]:
        def forward(x: jax.Array, weight: jax.Array) -> jax.Array:
            return convolution.conv2d(x, weight, stride=stride, padding=kernel // 2, groups=groups)

        def backward(x: jax.Array, weight: jax.Array) -> Any:
            y, pull = jax.vjp(forward, x, weight)
            return pull(y)

        return (backward if train else forward), (x, weight)

    return all_implementations(make, convolutional(train), train)


def operation_programs(name: str, batch: int) -> dict[str, Callable[[], Any]]:
    """One of :func:`operations`."""
    size, channels, function = operations()[name]
    x = np.random.default_rng(0).standard_normal((batch, size, size, channels), np.float32)
    return all_implementations(lambda: (lambda x: function(x), (x,)), convolutional(False), False)


def convolutional(train: bool) -> dict[str, str]:
    """XLA's options for a convolutional network, in inference or training."""
    from jaxvision.ops.program import compiler_options

    return compiler_options(attends=False, train=train)


def row(name: str, what: str, times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians in milliseconds, their ratio, and the ratio's range over the rounds."""
    ratios = sorted(p / o for p, o in zip(times["plain"], times["ours"], strict=True))
    ours, plain = (1e3 * float(np.median(times[key])) for key in ("ours", "plain"))
    library = {"onednn_ms": round(1e3 * float(np.median(times["onednn"])), 2)} if "onednn" in times else {}
    return library | {
        "name": name, "what": what, "ours_ms": round(ours, 2), "plain_ms": round(plain, 2),
        "ratio": round(float(np.median(ratios)), 2), "low": round(ratios[0], 2), "high": round(ratios[-1], 2),
        "samples": times,
    }  # fmt: skip


def main() -> int:
    """Command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    command_line.add_batch_size(parser, 8)
    command_line.add_image_size(parser, 224, "of a side (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write a table (.md) and all samples (.json)")
    args = parser.parse_args()
    import jax
    from rich.progress import track

    from jaxvision.files import replace_text
    from jaxvision.ops.process import prepare

    prepare()
    work: list[tuple[str, str, Callable[[], dict]]] = []
    for name, shape in CONVOLUTIONS.items():
        for what, train in (("forward", False), ("gradients", True)):
            work.append((name, what, lambda s=shape, t=train: convolution_programs(s, args.batch_size, t)))
    work += [(name, "forward", lambda n=name: operation_programs(n, args.batch_size)) for name in operations()]
    for name in args.models:
        for what, train in (("inference, fused", False), ("gradients", True)):
            work.append((name, what, lambda n=name, t=train: model_programs(n, args.batch_size, args.image_size, t)))
    rows, lines = [], ["| what | | plain, ms | ours, ms | gain (range) | with oneDNN, ms |", "|---" * 6 + "|"]
    for name, what, programs in track(work, "measuring", disable=not sys.stderr.isatty()):
        rows.append(row(name, what, interleaved(programs(), args.rounds)))
        r = rows[-1]
        gain = f"{r['ratio']}x ({r['low']} to {r['high']})"
        lines.append(f"| {name} | {what} | {r['plain_ms']} | {r['ours_ms']} | {gain} | {r.get('onednn_ms', '')} |")
        print(lines[-1], flush=True)
        jax.clear_caches()
    if args.out:
        head = (
            f"# Implementations on {jax.default_backend()}, {date.today()}\n\nBatch {args.batch_size}, "
            f"{args.image_size} px, float32, {args.rounds} interleaved rounds, medians; "
            f"{os.cpu_count()} cores of {processor()}, load {os.getloadavg()[0]:.1f} at the end, "
            f"python {platform.python_version()}, jax {jax.__version__}. "
            f"Command: `python {' '.join(sys.argv)}`. Plain: every operation as XLA's own.\n\n"
        )
        replace_text(args.out, head + "\n".join(lines) + "\n")
        replace_text(args.out.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    command_line.start(main)
