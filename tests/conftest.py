"""Test settings: CPU with eight simulated devices."""

import os
import subprocess
import sys
import tempfile

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# LLVM's optimisation is left out: the tests' time is compilation, not computation. Runs in processes of their own
# (cli.py) compile as a user's do.
_FLAGS = " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + _FLAGS
os.environ.setdefault("MPLBACKEND", "Agg")

# Compiled programs and indices are shared by the tests of one session and leave nothing in the user's cache.
_CACHE = tempfile.TemporaryDirectory(prefix="jaxvision-test-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name


# A file is a worker's from its first test to its last. The longest come first, so that both workers end together.
LONGEST = (
    "test_loop.py", "test_models.py", "test_recipes.py", "test_train_outcomes.py", "test_weights.py", "test_main.py",
    "test_imports.py", "test_regularisation.py", "test_parity_steps.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    subprocess.run([sys.executable, "-m", "jaxvision.data.digits", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _release_compiled_programs():
    """A worker that keeps every file's programs grows to 9 GB."""
    yield
    import jax

    jax.clear_caches()
