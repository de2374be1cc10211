"""Counts what XLA compiles for an NVIDIA H200, without one: kernels, their bytes, the least time that they need.

XLA compiles for a description of the card. A kernel's bytes are those of its operands and results in the compiled
program; its least time is the larger of bytes / 4.3 TB/s and 2.5 us. No kernel is timed and nothing is autotuned, so
the card may choose other kernels for matrix multiplications.

Needs JAX's CUDA packages, in an environment of their own (`make gpu-program`, python 3.12):

  make gpu-program ARGS="--models resnet50,convnext_tiny --modes infer"
  .venv-gpu/bin/python tools/bench/gpu_program.py --models swin_tiny_patch4_window7_224 --modes train --kernels
"""

from __future__ import annotations

import collections
import fnmatch
import functools
import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.shared import command_line

# The packages look for a driver on import; none is needed to compile.
os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tools.bench.hlo import BANDWIDTH, LAUNCH, Kernel, kernels
from tools.bench.models import COMPARISON, training

# NVIDIA's figures for the H200 SXM.
H200 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 4800000000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 150000000000 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } runtime_version { major: 13 }
device_description_str: "NVIDIA H200"
"""
CUDNN = 91900  # the version that an H200 was measured with
BATCHES = {"infer": 32, "train": 256}


def assume_cudnn() -> None:
    """Lets JAX and the library call cuDNN's attention: they look for the library, which the compiler does not need."""
    import jax._src.cudnn.fused_attention_stablehlo as fused

    from jaxvision.ops.gpu import attention

    fused.check_cudnn_version = lambda: CUDNN
    fused.check_compute_capability = lambda capability: True
    attention.has_plan = lambda tokens, heads, width, dtype: True


def compile_program(
    model: str, mode: str, batch: int, size: int, device: Any, options: dict[str, str | bool]
) -> tuple[str, Any]:
    """The compiled program's text and its memory analysis."""
    import jax
    import jax.numpy as jnp

    import jaxvision
    from jaxvision.inference.hoist import hoist
    from jaxvision.ops.backend import lower_for

    place = jax.sharding.SingleDeviceSharding(device)

    def shapes(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x), sharding=place), tree)

    built = jaxvision.create_model(model, key=jax.random.key(0), num_classes=1000, image_size=size, dtype=jnp.bfloat16)
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.bfloat16, sharding=place)
    with lower_for("gpu"):
        if mode == "infer":
            # As jaxvision.compile does it, with the weights prepared.
            variables = jaxvision.fuse(built).variables
            forward = functools.partial(built.module.apply, train=False)
            prepare, run = hoist(forward, variables, jax.ShapeDtypeStruct(images.shape, images.dtype))
            prepared = shapes(jax.eval_shape(prepare, variables))
            lowered = jax.jit(run, out_shardings=place).lower(prepared, images)
        else:
            state, step = training(built)
            labels = jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=place)
            lowered = jax.jit(step, donate_argnums=0, out_shardings=place).lower(shapes(state), images, labels)
        compiled = lowered.compile(options)
    return compiled.as_text(), compiled.memory_analysis()


def measure(
    model: str, mode: str, batch: int, size: int, device: Any, options: dict[str, str | bool]
) -> tuple[dict[str, Any], list[Kernel]]:
    """A row of the table, and its kernels."""
    began = time.perf_counter()
    text, memory = compile_program(model, mode, batch, size, device, options)
    found = kernels(text)
    total, floor = sum(k.bytes for k in found), sum(k.floor for k in found)
    kinds = collections.Counter(k.kind for k in found)
    row = {
        "model": model, "mode": mode, "batch": batch, "size": size, "kernels": len(found), "gigabytes": total / 1e9,
        "megabytes_per_image": total / 1e6 / batch, "floor_ms": 1e3 * floor, "images_per_s_at_most": batch / floor,
        "temporary_gigabytes": memory.temp_size_in_bytes / 1e9, "kinds": dict(kinds.most_common()),
        "compile_s": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    return row, found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| model | mode, batch | kernels | cuDNN | copies, transposes | GB | MB/image | floor ms | images/s at most "
        "| temporary GB |",
        "|---" * 10 + "|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['model']} | {row['mode']} {row['batch']} | {row['error']} |" + " |" * 7)
            continue
        kinds = row["kinds"]
        cudnn = sum(count for kind, count in kinds.items() if "cudnn" in kind)
        moves = sum(kinds.get(kind, 0) for kind in ("copy", "transpose", "copy-start"))
        lines.append(
            f"| {row['model']} | {row['mode']} {row['batch']} | {row['kernels']} | {cudnn} | {moves} "
            f"| {row['gigabytes']:.2f} | {row['megabytes_per_image']:.1f} | {row['floor_ms']:.2f} "
            f"| {row['images_per_s_at_most']:,.0f} | {row['temporary_gigabytes']:.1f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--models", default=",".join(COMPARISON), help="names, also with *; default: the comparison's")
    parser.add_argument("--modes", default="infer,train")
    command_line.add_batch_size(parser, 0, "default: 32, training 256")
    command_line.add_image_size(parser, 224, "of a side (%(default)s)")
    parser.add_argument("--kernels", action="store_true", help="list each program's kernels, the largest first")
    parser.add_argument("--options", default="", help="XLA's compiler options, NAME=VALUE,..., added to its own choice")
    parser.add_argument("--out", type=Path, help="write the table here, and the rows as .json")
    args = parser.parse_args(argv)
    import jax
    from jax.experimental import topologies

    import jaxvision
    from jaxvision.files import replace_text

    try:
        topology = topologies.get_topology_desc(platform="cuda", target_config=H200, topology="1x1x1")
    except NotImplementedError:
        print("error: JAX's CUDA packages are missing here: make gpu-program (python 3.12)", file=sys.stderr)
        return 2
    assume_cudnn()
    pairs = [option.partition("=") for option in args.options.split(",") if option]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        parser.error(f"--options expects NAME=VALUE,..., got {', '.join(wrong)}")
    options = {name: {"true": True, "false": False}.get(value, value) for name, _, value in pairs}
    known = jaxvision.list_models()
    names = [n for p in args.models.split(",") for n in (fnmatch.filter(known, p) if "*" in p else [p])]
    rows = []
    for mode in args.modes.split(","):
        for name in names:
            batch = args.batch_size or BATCHES[mode]
            try:
                row, found = measure(name, mode, batch, args.image_size, topology.devices[0], options)
            except Exception as error:  # one model must not end the others
                row = {"model": name, "mode": mode, "batch": batch, "error": f"{type(error).__name__}: {error}"[:200]}
                found = []
            rows.append(row)
            print(table([row]).splitlines()[-1], flush=True)
            for kernel in sorted(found, key=lambda k: -k.bytes) if args.kernels else ():
                print(f"  {kernel.bytes / 1e6:10.1f} MB  {1e6 * kernel.floor:8.1f} us  {kernel.kind:40} {kernel.name}")
    print("\n" + table(rows))
    if args.out:
        title = (
            f"# Programs for an H200, compiled without one, {date.today()}\n\njax {jax.__version__}, bfloat16, "
            f"{args.image_size} px; inference as `jaxvision.compile` does it, training with SGD and EMA. Nothing here "
            f"was timed: the floor is the sum over kernels of max(bytes / {BANDWIDTH / 1e12} TB/s, {1e6 * LAUNCH} us). "
            f"Command: `tools/bench/gpu_program.py {' '.join(argv or sys.argv[1:])}`\n\n"
        )
        replace_text(args.out, title + table(rows) + "\n")
        replace_text(args.out.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    command_line.start(main)
