"""Test settings: CPU with eight simulated devices."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("MPLBACKEND", "Agg")

# Compiled programs and indices are shared by the tests of one session and leave nothing in the user's cache.
_CACHE = tempfile.TemporaryDirectory(prefix="jaxvision-test-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name
