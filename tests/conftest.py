"""Test settings: a CPU with eight simulated devices, and one cache of compiled programs for the whole run."""

import os
import shutil
import tempfile
from pathlib import Path

import cli
import hypothesis
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Runs in processes of their own choose for themselves.
FLAGS = f" --xla_force_host_platform_device_count=8 {cli.QUICK}"
if FLAGS not in os.environ.get("XLA_FLAGS", ""):  # a worker inherits them; the cache's key holds them
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + FLAGS
os.environ.setdefault("MPLBACKEND", "Agg")
# Without a deadline, for loaded machines; the same examples in every run.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")

# Larger than this, the cache of compiled programs starts anew: it also holds the programs of former sources.
CACHE_BYTES = 2 << 30


def pytest_configure(config):
    """All workers and the programs they start share one compilation cache, which the next run finds again.

    JAX's key holds the program, the compiler's flags and jaxlib's version. Tests of the cache use another folder.
    """
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return  # the environment is the first process's
    temporary = tempfile.mkdtemp(prefix="jaxvision-tests-")
    config.add_cleanup(lambda: shutil.rmtree(temporary, ignore_errors=True))
    os.environ["XDG_CACHE_HOME"] = temporary  # indices of data files, and nothing in the user's own cache
    cache = getattr(config, "cache", None)
    programs = Path(cache.mkdir("compiled") if cache else temporary)
    if sum(entry.stat().st_size for entry in programs.iterdir()) > CACHE_BYTES:
        shutil.rmtree(programs)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(programs)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"


# A file is a worker's from its first test to its last. The longest come first, so that both workers end together.
LONGEST = (
    "test_models.py", "test_recipes.py", "test_without_cpu.py", "test_loop.py", "test_parity_steps.py",
    "test_weights.py", "test_batch_norm.py", "test_train_outcomes.py", "test_regularisation.py", "test_step.py",
    "test_onednn.py", "test_convolution.py", "test_bench.py", "test_sweep.py", "test_imports.py", "test_extending.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session")
def digits_dir():
    """The packaged digits' tfds data_dir."""
    from jaxvision.data import digits

    return digits.DATA_DIR


@pytest.fixture(scope="module", autouse=True)
def _release_a_files_programs():
    """A worker that keeps every program grows to 9 GB."""
    yield
    import jax

    jax.clear_caches()


@pytest.fixture(autouse=True)
def _release_a_networks_programs(request):
    yield
    if request.node.get_closest_marker("zoo"):
        import jax

        jax.clear_caches()


@pytest.fixture(autouse=True)
def _no_nan_is_close(monkeypatch):
    """numpy's comparison takes two NaNs or infinities for equal; here they are a failure, on one side or on both."""
    import numpy as np

    compare = np.testing.assert_allclose

    def assert_allclose(actual, desired, *args, **kwargs):
        for side in (actual, desired):
            assert np.isfinite(np.asarray(side, np.float64)).all(), side
        compare(actual, desired, *args, **kwargs)

    monkeypatch.setattr(np.testing, "assert_allclose", assert_allclose)
