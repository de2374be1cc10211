"""The order of a day with a GPU, rehearsed on a CPU, and what it is made of."""

import json
import subprocess
import sys

import cli
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tools.bench import kernels
from tools.gpu import check, trials, variants
from tools.gpu import main as day


def test_kernels_are_added_up_by_name_and_by_kind():
    events = [("loop_add_fusion", 2.0), ("nvjet_sm90_tst", 6.0), ("loop_add_fusion", 4.0), ("convolve_common", 1.0)]
    found = kernels.table(events, calls=2, wall=10.0)
    assert found["busy_us"] == 6.5 and found["wall_us"] == 10.0 and found["kernels"] == 2.0
    assert found["kinds_us"] == {"elementwise": 3.0, "matrix multiplication": 3.0, "convolution": 0.5}
    assert found["longest"][0] == {"name": "loop_add_fusion", "count": 1.0, "us": 3.0}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop", "attention"),
        ("cutlass_tensorop_bf16_s16816fprop_optimized", "convolution"),
        ("triton_per_fused_add_native_layer_norm_view_6", "reduction"),
        ("Memset (Device)", "copy"),
        ("gemm_fusion_dot_4", "matrix multiplication"),
    ],
)
def test_a_kernel_s_kind_is_read_from_its_name(name, expected):
    assert kernels.kind(name) == expected


def test_other_ways_have_the_convolution_s_values_and_gradients():
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 9, 8, 12))
    depthwise = jax.random.normal(keys[1], (12, 5, 5, 1))
    grouped = jax.random.normal(keys[2], (12, 3, 3, 4))
    cases = [
        (lambda x, w: variants.depthwise_sums(x, w, stride=1), depthwise, 1, 12),
        (lambda x, w: variants.depthwise_sums(x, w, stride=2), depthwise, 2, 12),
        (variants.depthwise_sums_with_gradient, depthwise, 1, 12),
        (lambda x, w: variants.convolve_channels_first(x, w, stride=2, groups=3), grouped, 2, 3),
        (lambda x, w: variants.dense_with_zeros(x, w, groups=3), grouped, 1, 3),
    ]
    for way, weight, stride, groups in cases:
        right, pull_right = jax.vjp(
            lambda x, w, s=stride, g=groups: variants.convolve(x, w, stride=s, groups=g), x, weight
        )
        ours, pull = jax.vjp(way, x, weight)
        for a, b in zip([ours, *pull(jnp.cos(right))], [right, *pull_right(jnp.cos(right))], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_a_way_that_fails_is_told_and_the_others_go_on():
    def broken(x):
        raise RuntimeError("No valid execution plans")

    row = trials.measure("title", {"one": jnp.sin, "two": broken}, (jnp.ones(3),), False, 1)
    assert set(row["ms"]) == {"one"} and "No valid execution plans" in row["failed"]["two"]


def test_an_error_that_is_no_number_is_infinite():
    exact = np.array([3.0, 4.0])
    assert check.error([3.0, 4.0], exact) == 0.0 and check.error([3.0, 4.5], exact) == pytest.approx(0.1)
    assert check.error([np.nan, 4.0], exact) == np.inf


@pytest.mark.program
def test_a_cut_off_day_goes_on_where_it_stopped(tmp_path):
    command = [sys.executable, "tools/gpu/main.py", "--rehearse", "--only", "check,trials", "--out", str(tmp_path)]
    subprocess.run([*command, "--minutes", "0.01"], cwd=cli.ROOT, check=False, capture_output=True)
    done = subprocess.run(command, cwd=cli.ROOT, check=True, capture_output=True, text=True)
    (path,) = tmp_path.glob("gpu_*.json")
    results = json.loads(path.read_text())["results"]
    assert {name: row["status"] for name, row in results["check"].items()} == dict.fromkeys(day.TINY, 0)
    assert all(row["rows"] for row in results["trials"].values()), results["trials"]
    for row in results["check"].values():
        errors = row["rows"][0]["jaxvision"]
        assert errors["logits highest"] < 1e-5 and errors["gradients highest"] < 1e-5
    again = subprocess.run(command, cwd=cli.ROOT, check=True, capture_output=True, text=True)
    assert "status" in done.stdout and "status" not in again.stdout  # nothing is done twice


def test_without_a_gpu_only_the_rehearsal_is_offered(tmp_path):
    run = subprocess.run(
        [sys.executable, "tools/gpu/main.py", "--out", str(tmp_path)], cwd=cli.ROOT, capture_output=True, text=True
    )
    assert run.returncode == 2 and "--rehearse" in run.stderr and not list(tmp_path.iterdir())
