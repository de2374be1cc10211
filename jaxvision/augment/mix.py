"""Mixup (Zhang et al. 2017, arXiv 1710.09412) and CutMix (Yun et al. 2019, arXiv 1905.04899), inside the train step.

Published recipes differ in which images are mixed with each other, in how many lambdas a batch has, and in how often a
batch is mixed. :class:`Mix` has a field for each of these.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

PAIRINGS = ("reverse", "roll")


@dataclasses.dataclass(frozen=True)
class Mix:
    """Mixup and CutMix, called as ``mix(key, images, targets)``; ``bool(mix)`` is false if it does nothing.

    Attributes:
      mixup, cutmix: alpha of the lambda's distribution Beta(alpha, alpha); 0 for none.
      prob: probability that a batch (with ``per_example``, an example) is mixed at all.
      switch: probability of CutMix where both alphas are above 0.
      pairing: an example's partner. "reverse": example i is mixed with the i-th from the end of the batch (timm, Swin,
        ConvNeXt, DeiT, automl). "roll": with the previous one (torchvision, big_vision).
      per_example: a lambda, a box and a choice for each example, not for the batch (automl).
      symmetric: Mixup's lambda is ``max(lambda, 1 - lambda)`` (big_vision, automl).
      halves: where both alphas are above 0: instead of a choice, Mixup for the first half of the batch and CutMix for
        the second, with partners within a half (automl).
      groups: the batch is split into this many consecutive groups of equal size. Partners are within a group, and each
        group has its own lambda, box and choice. One group per device is what published code does, and needs no
        communication between devices.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    prob: float = 1.0
    switch: float = 0.5
    pairing: str = "reverse"
    per_example: bool = False
    symmetric: bool = False
    halves: bool = False
    groups: int = 1

    def __bool__(self) -> bool:
        return (self.mixup > 0 or self.cutmix > 0) and self.prob > 0

    def __call__(self, key: jax.Array, images: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mixes a batch.

        Args:
          key: of all random numbers.
          images: (B, H, W, C).
          targets: float (B, K).

        Returns:
          Images and targets, like the arguments. CutMix's share in the targets is its exact share of the pixels.

        Raises:
          ValueError: the batch cannot be split into groups of equal size.
        """
        batch, height, width = images.shape[:3]
        split, groups = self._split, self._pairing_groups
        if batch % groups:
            raise ValueError(f"batch of {batch} cannot be split into {groups} groups of equal size")
        size = batch // groups
        draws = batch if self.per_example else groups
        # With halves, groups get Mixup and CutMix in turn.
        forced = (jnp.arange(draws) * groups // draws) % 2 == 1 if split else None
        is_cut, lam, box = self.draw(key, draws, height, width, forced)
        spread = lambda x: x if self.per_example else jnp.repeat(x, size)  # noqa: E731
        is_cut, lam = spread(is_cut), spread(lam)
        top, bottom, left, right = (spread(edge) for edge in box)

        partners, partner_targets = self.partners(images), self.partners(targets)
        rows, columns = jnp.arange(height), jnp.arange(width)
        in_rows = (rows >= top[:, None]) & (rows < bottom[:, None])
        in_columns = (columns >= left[:, None]) & (columns < right[:, None])
        inside = (in_rows[:, :, None] & in_columns[:, None])[..., None]
        share = lam[:, None, None, None]
        blended = (images * share + partners * (1 - share)).astype(images.dtype)
        mixed = jnp.where(is_cut[:, None, None, None], jnp.where(inside, partners, images), blended)
        return mixed, targets * lam[:, None] + partner_targets * (1 - lam[:, None])

    def draw(
        self, key: jax.Array, count: int, height: int, width: int, forced: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, tuple]:
        """Whether it is CutMix, lambda, and the box, for ``count`` draws; lambda 1 and an empty box for no mixing.

        Args:
          key: of all random numbers.
          count: number of draws.
          height, width: of the images.
          forced: bool (count,), true for CutMix, instead of a random choice.

        Returns:
          bool (count,), float32 (count,), and the box's (top, bottom, left, right), each int32 (count,).
        """
        beta_mixup, beta_cutmix, uniforms = jax.random.split(key, 3)
        u = jax.random.uniform(uniforms, (4, count))
        chosen = u[0] < self.prob
        is_cut = jnp.full(count, self.cutmix > 0)
        if self.mixup > 0 and self.cutmix > 0:
            is_cut = u[1] < self.switch if forced is None else forced
        ones = jnp.ones(count)
        of_mixup = jax.random.beta(beta_mixup, self.mixup, self.mixup, (count,)) if self.mixup > 0 else ones
        of_cutmix = jax.random.beta(beta_cutmix, self.cutmix, self.cutmix, (count,)) if self.cutmix > 0 else ones
        of_mixup = jnp.maximum(of_mixup, 1 - of_mixup) if self.symmetric else of_mixup
        lam = jnp.where(is_cut, of_cutmix, of_mixup)
        lam = jnp.where(chosen, lam, 1.0)
        side = jnp.sqrt(1 - lam)
        half_height, half_width = ((n * side).astype(jnp.int32) // 2 for n in (height, width))
        cy, cx = (u[2] * height).astype(jnp.int32), (u[3] * width).astype(jnp.int32)
        top, bottom = jnp.clip(cy - half_height, 0, height), jnp.clip(cy + half_height, 0, height)
        left, right = jnp.clip(cx - half_width, 0, width), jnp.clip(cx + half_width, 0, width)
        kept = 1 - (bottom - top) * (right - left) / (height * width)
        return is_cut, jnp.where(is_cut, kept, lam), (top, bottom, left, right)

    def partners(self, x: jax.Array) -> jax.Array:
        """Of each example of ``x`` (B, ...), the example that it is mixed with."""
        groups = self._pairing_groups
        grouped = x.reshape(groups, x.shape[0] // groups, *x.shape[1:])
        moved = grouped[:, ::-1] if self.pairing == "reverse" else jnp.roll(grouped, 1, 1)
        return moved.reshape(x.shape)

    @property
    def _split(self) -> bool:
        """Whether a group's first half gets Mixup and its second CutMix."""
        return self.halves and self.mixup > 0 and self.cutmix > 0

    @property
    def _pairing_groups(self) -> int:
        return self.groups * (2 if self._split else 1)
