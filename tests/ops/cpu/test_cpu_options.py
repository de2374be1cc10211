"""What makes programs fast on a CPU: the compiled model, and memory that is kept."""

import subprocess
import sys

import cli
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import relative_error, trained_like

import jaxvision
from jaxvision.errors import UserError
from jaxvision.model import build_module
from jaxvision.ops.cpu import options as cpu


def test_a_compiled_model_gives_the_model_s_logits():
    reference = trained_like("resnet10t", num_classes=7)
    model = jaxvision.create_model("resnet10t", num_classes=7, weights=reference.state_dict())
    x = np.random.default_rng(0).standard_normal((2, 96, 96, 3), np.float32)
    classify = jaxvision.compile(model)
    assert relative_error(classify(x), model(x)) < 1e-4
    assert classify.lower(jax.ShapeDtypeStruct((5, 64, 64, 3), jnp.float32)).compile() is not None
    with pytest.raises(UserError, match="NCHW"):
        classify(x.transpose(0, 3, 1, 2))
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):  # options reach the compiler
        jaxvision.compile(model, compiler_options={"xla_no_such_option": "1"})(x)


def test_ynnpack_is_off_in_convolutional_inference_and_sums_in_its_training():
    flag, network = "xla_cpu_experimental_ynn_fusion_type", build_module("resnet10t")
    assert cpu.compiler_options(network)[flag] == ""
    assert cpu.compiler_options(network, train=True)[flag] == "LIBRARY_FUSION_TYPE_REDUCE"
    assert flag not in cpu.compiler_options(build_module("swin_tiny_patch4_window7_224"))


@pytest.mark.program
def test_a_process_that_keeps_its_memory_asks_for_none_anew():
    """The pages that the median call touches for the first time; in a few the heap still settles."""
    program = (
        "import sys, resource, jaxvision; kept = sys.argv[1] == 'keep' and jaxvision.keep_memory()\n"
        "import jax, jax.numpy as jnp; f = jax.jit(lambda x: jnp.sin(x) @ x[:, :64]); x = jnp.ones((3000, 3000))\n"
        "def faults(): f(x).block_until_ready(); return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "counts = [faults() for _ in range(40)]; print(kept, sorted(b - a for a, b in zip(counts, counts[1:]))[20])"
    )
    faults = {}
    for argument in ("plain", "keep"):
        run = subprocess.run(
            [sys.executable, "-c", program, argument], env=cli.environment(), capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        kept, count = run.stdout.split()
        assert kept == str(argument == "keep")
        faults[argument] = int(count)
    assert faults["keep"] < faults["plain"] / 5


@pytest.mark.program
def test_one_process_runs_one_program_at_a_time():
    program = (
        "import jax; from jaxvision import experiment, main\n"
        "experiment.start_devices(main.load_config('configs/resnet_rs50.py:digits', []))\n"
        "print(jax.config.read('jax_cpu_enable_async_dispatch'), jax.jit(lambda x: x + 1)(1))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], env=cli.environment(), cwd=cli.ROOT, capture_output=True, text=True
    )
    assert run.stdout.split() == ["False", "2"], run.stderr
