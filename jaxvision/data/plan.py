"""The plan: a stateless function from a step to example ids and random numbers.

It is the only source of order and host randomness. The data position of a run is
therefore one integer, a resume costs the same at step 700,000 as at step 0, and the
order does not depend on threads, processes or devices.
"""

from __future__ import annotations

import functools

import numpy as np

PADDING = -1


class Plan:
    """Example ids and uniforms of every step, for one process's share of the global batch.

    Training runs through one fresh permutation of the data set after the other, without
    dropping or repeating an example at the seams. Evaluation visits every example
    exactly once, in order, and pads the last batch with id -1.

    Args:
      num_examples: size of the data set.
      batch_size: global batch size, divisible by ``shards``.
      seed: order and uniforms depend on it.
      train: shuffled and endless, or in order and once.
      shard, shards: this process and the number of processes. The shares of one step
        are consecutive parts of the global batch, so their union is the same for any ``shards``.
      repeats: repeated augmentation (Hoffer et al. 2019, arXiv 1901.09335): each example comes this many
        times in a row, so that an epoch of ``num_examples`` sees ``num_examples / repeats`` different ones.
      deal: the batch's consecutive parts, one per device, among which examples are dealt in turn, so that the
        copies of one lie in different parts, as DeiT's and torchvision's samplers do.
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
            raise ValueError(f"batch {batch_size} cannot be dealt to shard {shard} of {shards}")
        if batch_size % deal:
            raise ValueError(f"batch {batch_size} cannot be dealt among {deal} devices")
        self.repeats, self.deal = repeats, deal
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self.train = train
        self.shard = shard
        self.shards = shards

    def whole(self) -> Plan:
        """The same plan of all processes' shares together."""
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
        """Steps after which evaluation has seen every example."""
        return -(-self.num_examples // self.batch_size)

    def positions(self, step: int) -> np.ndarray:
        """Global example positions of this process at ``step``, int64 (local_batch_size,)."""
        first = step * self.batch_size + self.shard * self.local_batch_size
        return np.arange(first, first + self.local_batch_size, dtype=np.int64)

    def ids(self, step: int) -> np.ndarray:
        """Example ids of this process at ``step``, int64 (local_batch_size,); -1 is padding (evaluation only)."""
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
        """Random numbers in [0, 1) of each example of ``step``: float64 (local_batch_size, count)."""
        counters = self.positions(step).astype(np.uint64)[:, None] * np.uint64(count) + np.arange(
            count, dtype=np.uint64
        )
        start = _splitmix(np.array([self.seed], np.uint64))
        return (_splitmix(start + counters) >> np.uint64(11)) * 2.0**-53


def _splitmix(x: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele et al. 2014): a counter-based generator with 64-bit output; wraps on purpose."""
    with np.errstate(over="ignore"):
        x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


# Four: a batch may touch two epochs, and several plans may live in one process.
@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_examples)
