"""Everything runs without the package jaxvision.ops.cpu, and computes the same."""

import subprocess
import sys
from pathlib import Path

import cli
import numpy as np
import pytest
from family_cases import FAMILIES, lowered, results

from jaxvision.ops.backend import lower_for, target

# Largest difference over the largest value of an array, in float32: of logits and statistics, and of gradients, which
# are sums of many values that nearly cancel.
VALUES, GRADIENTS = 1e-5, 1e-4
# As if the package were not there.
DELETED = "import sys; sys.modules['jaxvision.ops.cpu'] = None\n"


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """What a process without the package computes."""
    out = tmp_path_factory.mktemp("without") / "results.npz"
    script = Path(__file__).resolve().parent.parent / "family_cases.py"
    code = f"{DELETED}import runpy; sys.argv[1:] = [{str(out)!r}]; runpy.run_path({str(script)!r}, run_name='__main__')"
    run = subprocess.run(
        [sys.executable, "-c", code], env=cli.environment(quick=True), cwd=cli.ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return dict(np.load(out))


@pytest.mark.zoo
@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_computes_the_same(name, without):
    ours = results(name)
    assert set(ours) == {key for key in without if key.startswith(f"{name}: ") and not key.endswith("text")}
    sizes = {key: np.abs(without[key]).max() for key in ours}
    largest = max(size for key, size in sizes.items() if "gradients" in key)
    for key, value in ours.items():
        assert np.isfinite(value).all() and np.isfinite(sizes[key]), key
        assert sizes[key] > 0, f"{key} is zero: nothing is compared"
        # The gradient of a bias before a batch normalisation is nothing but rounding.
        size = max(sizes[key], 1e-3 * largest) if "gradients" in key else sizes[key]
        error = np.abs(np.float64(value) - without[key]).max() / size
        assert error < (GRADIENTS if "gradients" in key else VALUES), f"{key}: {error:.1e}"


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["resnest14d", "efficientnet_b0", "vit_tiny_patch16_224"])
def test_the_switch_gives_the_program_of_a_process_without_the_package(name, without):
    with lower_for("tpu"):
        assert target() == "tpu"
        switched = lowered(name)[0].as_text()
    assert switched == str(without[f"{name}: text"])
    assert switched != lowered(name)[0].as_text()


@pytest.mark.program
def test_the_digits_train_without_the_package(tmp_path, digits_dir):
    code = f"{DELETED}from jaxvision.main import main\nsys.exit(main(sys.argv[1:]))"
    args = cli.arguments(tmp_path, digits_dir, steps=2)
    run = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=cli.environment(quick=True),
        cwd=cli.ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    losses = [record["loss"] for record in cli.records(tmp_path) if record["kind"] == "train"]
    assert losses and np.isfinite(losses).all()


def test_the_public_names_work_without_the_package():
    code = (
        f"{DELETED}import jax, jaxvision, numpy as np\n"
        "from jaxvision.ops.dtypes import default_dtype\n"
        "assert jaxvision.keep_memory() is False and default_dtype() is jax.numpy.float32\n"
        "model = jaxvision.create_model('resnet10t', num_classes=3, key=jax.random.key(0))\n"
        "classify, x = jaxvision.compile(model), np.ones((1, 32, 32, 3), np.float32)\n"
        "assert not classify.uses_onednn\n"
        "np.testing.assert_allclose(classify(x), model(x), rtol=1e-3, atol=1e-4)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=cli.environment(quick=True), cwd=cli.ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_nothing_outside_the_package_names_it():
    """But the loader, which does without it."""
    folder = cli.ROOT / "jaxvision"
    files = [path for root in (folder, cli.ROOT / "tools") for path in root.rglob("*.py")]
    naming = {
        path.relative_to(cli.ROOT).as_posix()
        for path in files
        if "ops.cpu" in path.read_text() and folder / "ops" / "cpu" not in path.parents
    }
    assert naming == {"jaxvision/ops/backend.py"}


def test_nothing_outside_ops_asks_for_the_backend():
    folder = cli.ROOT / "jaxvision"
    asking = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if folder / "ops" not in path.parents
        and any(question in path.read_text() for question in ("default_backend(", "target()", "lower_for("))
    ]
    assert not asking
