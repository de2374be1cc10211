"""Features of whole data sets, and what nearest neighbours and a linear classifier make of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.data.loader import Loader, prefetch
from jaxvision.data.plan import Plan
from jaxvision.data.sources import Source
from jaxvision.errors import UserError
from jaxvision.inference.probe import Linear, fit_linear, neighbour_votes
from jaxvision.model import Model
from jaxvision.preprocessing import Preprocessing
from jaxvision.train import sharding
from jaxvision.train.metrics import in_top_k

STRENGTHS = tuple(10.0**power for power in range(1, -7, -1))  # of the penalty; each fit begins with the one before
HELD_OUT = 5  # one of so many training images chooses the strength


@dataclasses.dataclass(frozen=True)
class Features:
    """Embeddings float32 (N, D) of images, and their labels int32 (N,)."""

    values: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class LinearResult:
    """A linear probe.

    Attributes:
      top1: in percent, of the images to evaluate on.
      l2: the chosen strength of the penalty.
      held_out: top-1 of each strength on the held-out training images.
      classifier: fitted to all training images.
    """

    top1: float
    l2: float
    held_out: dict[float, float]
    classifier: Linear


def embed(
    model: Model,
    settings: Preprocessing,
    source: Source,
    *,
    batch_size: int,
    threads: int | None = None,
    dtype: jnp.dtype = jnp.float32,
    said: Callable[[int], object] = lambda count: None,
) -> Features:
    """The embeddings of all images of a source, in its order, without augmentation.

    Args:
      model: whose :meth:`Model.embed` it is.
      settings: the preprocessing.
      source: of the images.
      batch_size: images per step; rounded up to a multiple of the devices.
      threads: that decode; None: one per core.
      dtype: of the computation.
      said: called with the number of images after each step.

    Raises:
      UserError: embeddings are NaN or infinite.
      DataError: an image cannot be read.
    """
    mesh, devices = sharding.make_mesh(), jax.device_count()
    plan = Plan(len(source), -(-batch_size // devices) * devices, seed=0, train=False)
    loader = Loader(
        source, plan, settings.transform, size=settings.size, dct_method=settings.dct_method, threads=threads
    )
    model = sharding.replicate(mesh, model)
    step = jax.jit(lambda model, images: model.embed(settings.normalise(images, dtype)).astype(jnp.float32))
    values, labels, count = [], [], 0
    for batch in prefetch(loader.batches(0, plan.eval_steps), lambda b: sharding.put_batch(mesh, b), depth=1):
        mask = np.asarray(batch["mask"])
        values.append(np.asarray(step(model, batch["image"]))[mask])
        labels.append(np.asarray(batch["label"])[mask])
        count += int(mask.sum())
        said(count)
    found = Features(np.concatenate(values), np.concatenate(labels))
    if bad := int((~np.isfinite(found.values).all(1)).sum()):
        raise UserError(f"the embeddings of {bad} of {len(source)} images are NaN or infinite")
    return found


def top1(scores: np.ndarray, labels: np.ndarray) -> float:
    """In percent, where a tie is wrong, as in every evaluation: of scores (N, K) and labels (N,)."""
    return 100 * float(np.mean(in_top_k(jnp.asarray(scores), jnp.asarray(labels), 1)))


def neighbour_probe(
    train: Features, evaluation: Features, *, num_classes: int, neighbours: int, temperature: float
) -> float:
    """Top-1 of :func:`jaxvision.inference.probe.neighbour_votes`, in percent."""
    votes = neighbour_votes(
        train.values,
        train.labels,
        evaluation.values,
        num_classes=num_classes,
        neighbours=neighbours,
        temperature=temperature,
    )
    return top1(votes, evaluation.labels)


def linear_probe(
    train: Features, evaluation: Features, *, num_classes: int, strengths: Sequence[float] = STRENGTHS
) -> LinearResult:
    """A linear classifier whose penalty a fifth of the training images chooses, which are then trained on, too.

    The strength with the best held-out top-1 is taken, among equal ones that with the lowest cross-entropy.

    Raises:
      UserError: there are fewer than ten training images.
    """
    if len(train.labels) < 2 * HELD_OUT:
        raise UserError(f"{len(train.labels)} training images are too few for a linear probe: at least {2 * HELD_OUT}")
    # Each class in its share: shuffled, then in the order of the classes, every fifth.
    order = np.random.default_rng(0).permutation(len(train.labels))
    order = order[np.argsort(train.labels[order], kind="stable")]
    held, kept = order[::HELD_OUT], np.delete(order, np.s_[::HELD_OUT])
    fit, held_out, losses = None, {}, {}
    for l2 in strengths:
        fit = fit_linear(train.values[kept], train.labels[kept], num_classes=num_classes, l2=l2, start=fit)
        logits, labels = fit(train.values[held]), train.labels[held]
        held_out[l2] = top1(logits, labels)
        losses[l2] = -float(np.mean(np.asarray(jax.nn.log_softmax(logits))[np.arange(len(labels)), labels]))
    best = max(strengths, key=lambda l2: (held_out[l2], -losses[l2]))
    classifier = fit_linear(train.values, train.labels, num_classes=num_classes, l2=best)
    return LinearResult(top1(classifier(evaluation.values), evaluation.labels), best, held_out, classifier)
