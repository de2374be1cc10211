"""Times several ways to compute the same operation on this device, forward and with gradients; prints lines of JSON.

  python tools/gpu/trials.py                      # all, at the sizes of training with 256 images
  python tools/gpu/trials.py attention depthwise --batch 32

All ways of an operation run in turn in one process, in bfloat16; medians in milliseconds. The first way of each is the
one that the networks use today; the others have to be correct (their difference is reported) before they are chosen.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tools.bench.implementations import interleaved
from tools.gpu import variants
from tools.shared import command_line

Ways = dict[str, Callable[..., jax.Array]]
DTYPE = jnp.bfloat16


def normal(*shape: int, seed: int = 0) -> jax.Array:
    """Standard normal values."""
    return jax.random.normal(jax.random.key(seed), shape, DTYPE)


def attention(batch: int) -> Iterator[tuple[str, Ways, tuple]]:
    """DeiT-S: 197 tokens, 6 heads of 64 channels; Swin-T's first stage: 64 windows of 49 tokens, 3 heads of 32."""
    q, k, v = (normal(batch, 197, 6, 64, seed=i) for i in range(3))
    ways: Ways = {"xla": jax.nn.dot_product_attention}
    for length in (197, 198, 200):
        ways[f"cudnn, padded to {length}"] = functools.partial(variants.cudnn_attention, length=length)
    yield "attention, 197 tokens, 6 x 64", ways, (q, k, v)
    q, k, v = (normal(batch * 64, 49, 3, 32, seed=i) for i in range(3))
    bias = normal(1, 3, 49, 49, seed=3)
    ways = {"xla": lambda q, k, v, bias: jax.nn.dot_product_attention(q, k, v, bias)}
    for length in (56, 64):
        ways[f"cudnn, padded to {length}"] = functools.partial(variants.cudnn_attention, length=length)
    yield "attention, windows of 49 tokens with a bias, 3 x 32", ways, (q, k, v, bias)


def depthwise(batch: int) -> Iterator[tuple[str, Ways, tuple]]:
    """ConvNeXt-T's first and third stage, and three layers of EfficientNet-B0."""
    for size, channels, kernel, stride in (
        (56, 96, 7, 1), (14, 384, 7, 1), (112, 32, 3, 1), (112, 96, 3, 2), (28, 240, 5, 1),
    ):  # fmt: skip
        x, weight = normal(batch, size, size, channels), normal(channels, kernel, kernel, 1, seed=1)
        arguments = {"stride": stride, "groups": channels}
        ways: Ways = {
            "xla": functools.partial(variants.convolve, **arguments),
            "channels first": functools.partial(variants.convolve_channels_first, **arguments),
            "shifted sums": functools.partial(variants.depthwise_sums, stride=stride),
        }
        if stride == 1:
            ways["shifted sums, own gradient"] = variants.depthwise_sums_with_gradient
        yield f"depthwise {kernel}x{kernel} stride {stride}, {size}x{size}x{channels}", ways, (x, weight)


def grouped(batch: int) -> Iterator[tuple[str, Ways, tuple]]:
    """The grouped convolutions of SE-ResNeXt-50 (32 groups) and ResNeSt-50 (2 groups)."""
    for size, channels, groups in ((56, 128, 32), (14, 512, 32), (28, 256, 2)):
        x, weight = normal(batch, size, size, channels), normal(channels, 3, 3, channels // groups, seed=1)
        ways: Ways = {
            "xla": functools.partial(variants.convolve, stride=1, groups=groups),
            "channels first": functools.partial(variants.convolve_channels_first, stride=1, groups=groups),
            "dense with zeros": functools.partial(variants.dense_with_zeros, groups=groups),
        }
        yield f"3x3 in {groups} groups, {size}x{size}x{channels}", ways, (x, weight)


def stem(batch: int) -> Iterator[tuple[str, Ways, tuple]]:
    """ResNet's first convolution, whose three channels do not fill a tensor core."""
    x, weight = normal(batch, 224, 224, 3), normal(64, 7, 7, 3, seed=1)
    ways: Ways = {"xla": functools.partial(variants.convolve, stride=2, groups=1)}
    for channels in (4, 8):
        ways[f"padded to {channels} channels"] = functools.partial(variants.with_more_channels, channels=channels)
    yield "stem 7x7 stride 2, 224x224x3", ways, (x, weight)


def pooling(batch: int) -> Iterator[tuple[str, Ways, tuple]]:
    """ResNet's max pooling."""
    from jaxvision.ops.pooling import max_pool_3x3

    ways: Ways = {"xla": max_pool_3x3.portable, "jaxvision.ops.gpu": max_pool_3x3.dispatch("gpu")}
    yield "max pooling 3x3 stride 2, 112x112x64", ways, (normal(batch, 112, 112, 64),)


def norm(batch: int) -> Iterator[tuple[str, Ways, tuple]]:
    """Layer normalisation of DeiT-S's tokens."""
    from jaxvision.ops.normalization import layer_norm

    def way(backend: str) -> Callable[..., jax.Array]:
        return lambda x, scale, bias: layer_norm.dispatch(backend)(x, scale, bias, 1e-6, DTYPE)

    arguments = normal(batch, 197, 384), jnp.ones(384), jnp.zeros(384)
    yield "layer norm, 197 tokens of 384", {"xla": way("tpu"), "jaxvision.ops.gpu": way("gpu")}, arguments


def activation(batch: int) -> Iterator[tuple[str, Ways, tuple]]:
    """The GELU between the two layers of DeiT-S's MLP."""
    from jaxvision.ops.activations import gelu, gelu_value

    ways: Ways = {"xla": lambda x: jax.nn.gelu(x, approximate=False), "jaxvision.ops.gpu": gelu}
    ways["erfc"] = gelu_value.portable
    yield "gelu, 197 tokens of 1536", ways, (normal(batch * 197, 1536),)


TRIALS = {f.__name__: f for f in (attention, activation, norm, pooling, stem, grouped, depthwise)}


def programs(ways: Ways, arguments: tuple, gradients: bool) -> tuple[dict[str, Callable], dict[str, str], dict]:
    """The compiled ways that work, why others do not, and the results of all."""
    working, failed, results = {}, {}, {}

    def build(way: Callable) -> Callable:
        def run(*arguments: jax.Array) -> Any:
            if not gradients:
                return way(*arguments)
            out, pull = jax.vjp(way, *arguments)
            return pull(jnp.sin(lax.iota(out.dtype, out.size)).reshape(out.shape))

        return jax.jit(run).lower(*arguments).compile()

    with ThreadPoolExecutor(len(ways)) as pool:
        builds = {name: pool.submit(build, way) for name, way in ways.items()}
    for name, future in builds.items():
        try:
            compiled = future.result()
            results[name] = jax.tree.map(lambda x: np.asarray(x, np.float32), jax.tree.leaves(compiled(*arguments)))
            working[name] = functools.partial(compiled, *arguments)
        except Exception as error:  # a library's plan may be missing: the other ways go on
            failed[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    return working, failed, results


def measure(title: str, ways: Ways, arguments: tuple, gradients: bool, rounds: int) -> dict[str, Any]:
    """A row: medians in milliseconds, the largest relative difference from the first way, and what failed."""
    working, failed, results = programs(ways, arguments, gradients)
    times = interleaved(working, rounds)
    first = results.get(next(iter(ways)))

    def difference(name: str) -> float | None:
        if first is None:
            return None
        pairs = zip(results[name], first, strict=True)
        return max(float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12)) for a, b in pairs)

    return {
        "operation": title, "what": "gradients" if gradients else "forward",
        "ms": {name: round(1e3 * statistics.median(values), 4) for name, values in times.items()},
        "difference": {name: difference(name) for name in working}, "failed": failed,
    }  # fmt: skip


def main() -> int:
    """Command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TRIALS)} (all)")
    command_line.add_batch_size(parser, 256)
    parser.add_argument("--rounds", type=int, default=11, help="measurements of each way (11)")
    args = parser.parse_args()
    if unknown := set(args.names) - set(TRIALS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {', '.join(TRIALS)}")
    for name in args.names or TRIALS:
        for title, ways, arguments in TRIALS[name](args.batch_size):
            for gradients in (False, True):
                print(json.dumps(measure(title, ways, arguments, gradients, args.rounds)), flush=True)
    return 0


if __name__ == "__main__":
    command_line.start(main)
