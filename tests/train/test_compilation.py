"""JAX's cache of compiled programs: a damaged entry is replaced, and the others stay as they are."""

import subprocess
import sys
import warnings

import cli
import jax
import pytest

from jaxvision.train.compilation import replacing_damaged_entries, use_cache

# Programs of one name, as the train steps of several recipes have.
PROGRAM = """
import sys, jax
from jaxvision.train.compilation import compile_program

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def programs():
    for factor in (2.0, 3.0, 4.0):
        def train_step(x):
            return factor * x
        yield jax.jit(train_step)


for program in programs():
    print(float(compile_program(program, 1.0, what="the train step")(1.0)))
"""


def run(folder):
    """Compiles the programs in a new process, where every warning is an error."""
    environment = cli.environment(quick=True) | {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, folder], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2.0", "3.0", "4.0"]
    return {path.name: path.read_bytes() for path in folder.iterdir() if "train_step" in path.name}


def test_a_cache_that_cannot_be_written_is_one_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        with pytest.warns(UserWarning, match="cannot be written to .*XDG_CACHE_HOME names another folder"):
            use_cache()
        assert jax.config.jax_compilation_cache_dir is None
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new"))
        use_cache()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "new" / "jaxvision" / "xla")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.slow
def test_damaged_entries_are_replaced_and_no_others(tmp_path):
    stored = run(tmp_path)
    assert len(stored) == 3
    damaged, cut, good = (tmp_path / name for name in stored)
    damaged.write_bytes(b"no program")
    cut.write_bytes(stored[cut.name][: len(stored[cut.name]) // 2])
    written = good.stat().st_mtime_ns
    after = run(tmp_path)
    assert good.stat().st_mtime_ns == written and after[good.name] == stored[good.name]
    assert len(after) == 3 and all(len(after[path.name]) > len(stored[path.name]) // 2 for path in (damaged, cut))
    times = [path.stat().st_mtime_ns for path in (damaged, cut, good)]
    run(tmp_path)  # reads all of them
    assert times == [path.stat().st_mtime_ns for path in (damaged, cut, good)]


def test_a_program_that_cannot_be_stored_is_nothing_to_warn_of():
    """It calls oneDNN; XLA does not serialise such programs."""
    with replacing_damaged_entries():
        warnings.warn("Error writing persistent compilation cache entry for 'jit_train_step'", stacklevel=1)


def test_other_warnings_are_not_hidden():
    with pytest.warns(UserWarning, match="something else"), replacing_damaged_entries():
        warnings.warn("something else", stacklevel=1)
