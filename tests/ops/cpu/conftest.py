"""These tests go with the package jaxvision.ops.cpu: without it there is nothing to test."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("jaxvision.ops.cpu") else ["test_*.py"]
