"""The mesh of devices, and arrays on it: the same code for one device and for many hosts."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"


def make_mesh() -> Mesh:
    """A mesh of one axis over all devices of all processes.

    Its type is Auto: with explicit sharding types, JAX rejects the reshapes of several models.
    """
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device has whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """The sharding of an array whose leading axis is divided among the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """A global batch on the mesh's devices, from the rows of this process."""
    sharding = batch_sharded(mesh)
    return {key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()}


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Host arrays, which must be equal in every process, on every device. The buffers are new and may be donated."""
    sharding = replicated(mesh)

    def put(leaf: Any) -> jax.Array:
        # On a CPU device_put may use the numpy buffer itself, and donating that corrupts the array.
        value = np.array(leaf, copy=True)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    return jax.tree.map(put, tree)


def fetch(tree: Any) -> Any:
    """numpy copies of replicated arrays; all transfers start before the first is waited for."""
    local = jax.tree.map(lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, tree)
    for leaf in jax.tree.leaves(local):
        if hasattr(leaf, "copy_to_host_async"):
            leaf.copy_to_host_async()
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), local)
