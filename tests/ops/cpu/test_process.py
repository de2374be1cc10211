"""Settings of a process that computes on a CPU."""

import subprocess
import sys

import cli
import pytest


@pytest.mark.slow
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
        "import jax; from jaxvision import config, main; from jaxvision.train import build\n"
        "build.start_devices(config.resolve(main.load_config('configs/resnet_rs50.py:digits', [])))\n"
        "print(jax.config.read('jax_cpu_enable_async_dispatch'), jax.jit(lambda x: x + 1)(1))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], env=cli.environment(), cwd=cli.ROOT, capture_output=True, text=True
    )
    assert run.stdout.split() == ["False", "2"], run.stderr
