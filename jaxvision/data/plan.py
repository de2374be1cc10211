"""The plan: a function of the step alone that says which examples a batch has, and with which random numbers.

Nothing else decides the order of examples or the random numbers of the host. So the position of a run in its data is
one integer, resuming takes as long at step 700,000 as at step 0, and the order does not depend on threads, processes or
devices.
"""

from __future__ import annotations

import functools

import numpy as np

PADDING = -1


class Plan:
    """Example ids and uniforms of every step, for one process's share of the global batch.

    Training goes through one new permutation of the data set after the other. A batch may contain the end of one and
    the start of the next, so no example is dropped or repeated there. Evaluation goes through all examples once, in
    order, and pads the last batch with id -1.

    Args:
      num_examples: size of the data set.
      batch_size: global batch size, divisible by ``shards`` and by ``deal``.
      seed: of order and uniforms.
      train: true: shuffled and endless; false: in order and once.
      shard, shards: index of this process, and the number of processes. Their shares are consecutive slices of the
        global batch, so the global batch is the same for any ``shards``.
      repeats: repeated augmentation (Hoffer et al. 2019, arXiv 1901.09335): each example comes this many times in a
        row, so an epoch of ``num_examples`` has ``num_examples / repeats`` different ones.
      deal: number of consecutive slices of the global batch, one for each device of the published run. With
        ``repeats``, examples are distributed among them in turn, so that the copies of an example are in different
        slices, as in DeiT's and torchvision's samplers; as in these, with more copies than slices some share one.

    Raises:
      ValueError: no examples, or a batch that cannot be split equally.
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        *,
        seed: int,
        train: bool,
        shard: int = 0,
        shards: int = 1,
        repeats: int = 1,
        deal: int = 1,
    ) -> None:
        if num_examples < 1:
            raise ValueError(f"a plan needs at least one example, got {num_examples}")
        if batch_size % shards or not 0 <= shard < shards:
            raise ValueError(f"batch {batch_size} cannot be split for shard {shard} of {shards}")
        if batch_size % deal:
            raise ValueError(f"batch {batch_size} cannot be dealt in {deal} slices")
        self.repeats, self.deal = repeats, deal
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self.train = train
        self.shard = shard
        self.shards = shards

    def whole(self) -> Plan:
        """The same plan for the whole global batch."""
        return Plan(
            self.num_examples,
            self.batch_size,
            seed=self.seed,
            train=self.train,
            repeats=self.repeats,
            deal=self.deal,
        )

    @property
    def local_batch_size(self) -> int:
        """Examples per step of this process."""
        return self.batch_size // self.shards

    @property
    def eval_steps(self) -> int:
        """Number of steps in which evaluation goes through all examples."""
        return -(-self.num_examples // self.batch_size)

    def positions(self, step: int) -> np.ndarray:
        """Positions of this process's examples at ``step``, counted from the first step: int64 (local_batch_size,)."""
        first = step * self.batch_size + self.shard * self.local_batch_size
        return np.arange(first, first + self.local_batch_size, dtype=np.int64)

    def ids(self, step: int) -> np.ndarray:
        """Ids of this process's examples at ``step``, int64 (local_batch_size,); -1 is padding, in evaluation only."""
        positions = self.positions(step)
        if not self.train:
            return np.where(positions < self.num_examples, positions, PADDING)
        if self.repeats > 1:
            steps, rows = np.divmod(positions, self.batch_size)
            part = self.batch_size // self.deal
            positions = steps * self.batch_size + rows % part * self.deal + rows // part
        epochs, offsets = np.divmod(positions, self.num_examples)
        offsets //= self.repeats
        ids = np.empty_like(positions)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            ids[chosen] = _permutation(self.seed, int(epoch), self.num_examples)[offsets[chosen]]
        return ids

    def uniforms(self, step: int, count: int) -> np.ndarray:
        """Random numbers in [0, 1) for this process's examples at ``step``: float64 (local_batch_size, count)."""
        counters = self.positions(step).astype(np.uint64)[:, None] * np.uint64(count) + np.arange(
            count, dtype=np.uint64
        )
        start = _splitmix(np.array([self.seed], np.uint64))
        return (_splitmix(start + counters) >> np.uint64(11)) * 2.0**-53


def _splitmix(x: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele et al. 2014): a counter-based generator of 64-bit numbers; overflow is intended."""
    with np.errstate(over="ignore"):
        x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


# Four, because a batch may be in two epochs, and a process may have several plans.
@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_examples)
