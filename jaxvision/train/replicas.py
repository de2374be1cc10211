"""Groups of a batch: a recipe's number of devices, on the devices that are there.

In published code each device treats its share of the batch as a batch of its own: it computes batch-norm statistics
over it, mixes its images with each other, and gets at most one copy of a repeated image. ``config.replicas`` states how
many devices these were. The batch is then split into that many consecutive groups on any hardware, so that a run on one
device has the groups of the published run.

Devices hold consecutive slices of the batch. Where they divide ``config.replicas`` each holds whole groups, and groups
need no communication.
"""

from __future__ import annotations

import jax
import numpy as np

from jaxvision.augment import make_mix
from jaxvision.config import Config
from jaxvision.data.plan import Plan
from jaxvision.errors import UserError

SMALL_GROUP = 16  # images; below, batch norm's statistics cost accuracy (Wu & He 2018, arXiv 1803.08494, figure 1)


def group_count(config: Config, devices: int) -> int:
    """Groups of a microbatch: of the whole batch where ``config.accumulate`` is 1.

    Microbatches hold whole groups: with 8 replicas and 4 microbatches each has two, of the size that they have without
    microbatches. A torch recipe moves to fewer GPUs like this: microbatches take the place of GPUs. Without
    ``config.replicas`` a group is a device's share of a microbatch.
    """
    return config.replicas // config.accumulate if config.replicas else devices


def deal_count(config: Config, devices: int) -> int:
    """The number of slices of the batch among which the copies of repeated augmentation are distributed."""
    return (config.replicas or devices) if config.data.repeats > 1 else 1


def split_microbatches(config: Config, x: jax.Array) -> jax.Array:
    """A batch as microbatches: (B, ...) to (config.accumulate, B / config.accumulate, ...).

    Microbatch a has groups a, a + A, a + 2 A, ... of the batch, or, without ``config.replicas``, these examples. So
    every device has its share of each.
    """
    parts, block = config.accumulate, _block(config, len(x))
    return x.reshape(-1, parts, block, *x.shape[1:]).swapaxes(0, 1).reshape(parts, -1, *x.shape[1:])


def join_microbatches(config: Config, x: jax.Array) -> jax.Array:
    """The inverse of :func:`split_microbatches`."""
    parts, block = config.accumulate, _block(config, x.shape[0] * x.shape[1])
    return x.reshape(parts, -1, block, *x.shape[2:]).swapaxes(0, 1).reshape(-1, *x.shape[2:])


def _block(config: Config, batch: int) -> int:
    return batch // config.replicas if config.replicas and config.grouped() else 1


def check_devices(config: Config, devices: int) -> None:
    """Checks that the groups of a config can be made on this many devices.

    Raises:
      UserError: they cannot; the message names the fields and says what to change.
    """
    grouped, replicas, accumulate = config.grouped(), config.replicas, config.accumulate
    if not grouped:
        return
    shares = devices * accumulate
    if replicas and replicas % shares and (accumulate > 1 or devices % replicas):
        microbatches = f" x {accumulate} microbatches (config.accumulate)" if accumulate > 1 else ""
        most = replicas // devices  # microbatches of which each device has whole groups
        fewer = f"; or lower config.accumulate to {most}" + " or a divisor of it" * (most > 1)
        raise UserError(
            f"config.replicas = {replicas}: {' and '.join(grouped)} split the batch into {replicas} groups, which "
            f"{devices} devices{microbatches} cannot share equally. Set config.replicas to a multiple of {shares}, or "
            f"to 0 for a group per device, which changes the recipe" + (fewer if replicas % devices == 0 else "")
        )
    if not replicas and (problem := config.group_problem(config.batch_size // shares)):
        raise UserError(problem)


def group_notes(config: Config, devices: int) -> list[str]:
    """Notes for the user about the groups of a run, a sentence each."""
    found = []
    grouped, repeats, dealt = config.grouped(), config.data.repeats, config.replicas or devices
    if grouped:
        size = config.batch_size // config.accumulate // group_count(config, devices)
        if config.replicas not in (0, devices):
            found.append(
                f"{' and '.join(grouped)}: {config.replicas} groups of {size} images, as on the {config.replicas} "
                "devices of config.replicas"
            )
        if "config.batch_norm" in grouped and size < SMALL_GROUP:
            found.append(
                f"batch norm's statistics are of {size} images each: raise config.batch_size, lower config.replicas or "
                'set config.batch_norm = "global"'
            )
    if repeats > dealt:
        share = same_image_share(config, devices)
        mixed = f", and {share:.0%} of the images are mixed with a copy of themselves" if share else ""
        found.append(
            f"config.data.repeats = {repeats} on {dealt} device{'s' * (dealt > 1)}: copies of an "
            f"image are in the same part of the batch{mixed}; config.replicas = {repeats} or more separates them"
        )
    return found


def same_image_share(config: Config, devices: int) -> float:
    """Share of the images whose partner in Mixup and CutMix is a copy of the same image; 0.0 without mixing."""
    mix = make_mix(config.augment, groups=group_count(config, devices))
    if not mix:
        return 0.0
    batch = config.batch_size
    plan = Plan(batch, batch, seed=0, train=True, repeats=config.data.repeats, deal=deal_count(config, devices))
    ids = split_microbatches(config, plan.ids(0))
    partners = np.stack([mix.partners(part) for part in ids])
    return float(np.mean(ids == partners))
