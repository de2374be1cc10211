"""The device mesh, and arrays on it: one code path from one device to many hosts."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"


def make_mesh() -> Mesh:
    """One axis over all devices of all processes. Auto: explicit sharding types reject several models' reshapes."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """A full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """The leading axis cut over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's part of a global batch onto its devices."""
    sharding = batch_sharded(mesh)
    return {key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()}


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Host arrays, equal in every process, onto every device. Buffers are fresh, so they may be donated."""
    sharding = replicated(mesh)

    def put(leaf: Any) -> jax.Array:
        # device_put may alias a numpy buffer on CPU, and donating an aliased buffer corrupts it.
        value = np.array(leaf, copy=True)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

    return jax.tree.map(put, tree)


def fetch(tree: Any) -> Any:
    """numpy copies of replicated arrays, all transfers started before the first is awaited."""
    local = jax.tree.map(lambda leaf: leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf, tree)
    for leaf in jax.tree.leaves(local):
        if hasattr(leaf, "copy_to_host_async"):
            leaf.copy_to_host_async()
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), local)
