"""These tests go with the package jaxvision.ops.cpu: without it there is nothing to test."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[3] / "jaxvision" / "ops" / "cpu"
# A look at the folder, and no import: JAX must not start before tests/conftest.py has set its environment.
collect_ignore_glob = [] if PACKAGE.is_dir() else ["test_*.py"]
