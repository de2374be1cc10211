"""How good frozen features are: votes of nearest neighbours, and logistic regression."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

_BLOCK = 1024  # queries at a time, so that their similarities to all images fit into memory
_MEMORY = 20  # gradients from which L-BFGS estimates the curvature


def neighbour_votes(
    features: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    *,
    num_classes: int,
    neighbours: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """The share of votes that each class gets from a query's nearest neighbours, weighted by their similarity.

    A neighbour of cosine similarity s votes for its class with the weight exp(s / temperature), as in Wu et al. 2018
    (arXiv 1805.01978); 20 neighbours and 0.07 are what DINO reports (Caron et al. 2021, arXiv 2104.14294).

    Args:
      features: of the images that vote, float (N, D).
      labels: theirs, int (N,).
      queries: features of other images, float (M, D).
      num_classes: number of classes.
      neighbours: how many vote; all N where they are fewer.
      temperature: the lower, the more the nearest ones count.

    Returns:
      float32 (M, num_classes); each row adds up to 1.
    """
    voters, owners = _unit(jnp.asarray(features, jnp.float32)), jnp.asarray(labels, jnp.int32)
    vote = functools.partial(_vote, neighbours=min(neighbours, len(labels)), num_classes=num_classes)
    blocks = [queries[i : i + _BLOCK] for i in range(0, len(queries), _BLOCK)]
    return np.concatenate(
        [np.asarray(vote(voters, owners, jnp.asarray(block, jnp.float32), temperature)) for block in blocks]
    )


@functools.partial(jax.jit, static_argnames=("neighbours", "num_classes"))
def _vote(
    voters: jax.Array, owners: jax.Array, queries: jax.Array, temperature: float, *, neighbours: int, num_classes: int
) -> jax.Array:
    similarity = jnp.matmul(_unit(queries), voters.T, precision="highest")
    nearest, places = jax.lax.top_k(similarity, neighbours)
    # Relative to the nearest one: only ratios of the weights count, and low temperatures do not overflow.
    weights = jax.nn.softmax(nearest / temperature, axis=-1)
    rows = jnp.arange(len(queries))[:, None]
    return jnp.zeros((len(queries), num_classes)).at[rows, owners[places]].add(weights)


def _unit(features: jax.Array) -> jax.Array:
    """Each row divided by its length; a row of zeros stays."""
    return features / jnp.maximum(jnp.linalg.norm(features, axis=-1, keepdims=True), 1e-12)


class Linear(NamedTuple):
    """A linear classifier of standardised features.

    Attributes:
      weights, bias: float32 (D, K) and (K,).
      mean, scale: of the features that it was fitted to, (D,): their means and standard deviations.
    """

    weights: jax.Array
    bias: jax.Array
    mean: np.ndarray
    scale: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Logits float32 (N, K) of features (N, D)."""
        x = jnp.asarray((features - self.mean) / self.scale, jnp.float32)
        return np.asarray(jnp.matmul(x, self.weights, precision="highest") + self.bias)


def fit_linear(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    num_classes: int,
    l2: float,
    start: Linear | None = None,
    steps: int = 1000,
    tolerance: float = 1e-6,
) -> Linear:
    """Multinomial logistic regression on standardised features, by L-BFGS.

    It minimises the mean cross-entropy plus ``l2 / 2`` times the sum of the squared weights, not of the biases; that is
    scikit-learn's ``LogisticRegression(C=1 / (l2 * N))`` on standardised features.

    Args:
      features: float (N, D).
      labels: int (N,).
      num_classes: number of classes.
      l2: strength of the penalty.
      start: a fit of the same features with another strength to begin with: faster, the same result.
      steps: at most so many.
      tolerance: ends where no component of the gradient is larger.
    """
    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale < 1e-8, 1.0, scale)  # of a feature that is always the same
    x = jnp.asarray((features - mean) / scale, jnp.float32)
    shape = features.shape[1], num_classes
    begin = (jnp.zeros(shape), jnp.zeros(num_classes)) if start is None else (start.weights, start.bias)
    weights, bias = _minimise(begin, x, jnp.asarray(labels, jnp.int32), l2, tolerance, steps)
    return Linear(weights, bias, mean, scale)


@jax.jit
def _minimise(begin: Any, x: jax.Array, labels: jax.Array, l2: float, tolerance: float, steps: int) -> Any:
    def loss(params: Any) -> jax.Array:
        weights, bias = params
        logits = jnp.matmul(x, weights, precision="highest") + bias
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return entropy + 0.5 * l2 * jnp.sum(weights**2)

    optimizer = optax.lbfgs(memory_size=_MEMORY)
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry: Any) -> Any:
        params, state, count, _ = carry
        value, gradient = value_and_grad(params, state=state)
        updates, state = optimizer.update(gradient, state, params, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(params, updates), state, count + 1, _largest(optax.tree.get(state, "grad"))

    def unfinished(carry: Any) -> jax.Array:
        return (carry[2] < steps) & (carry[3] > tolerance)

    first = begin, optimizer.init(begin), jnp.int32(0), jnp.float32(jnp.inf)
    return jax.lax.while_loop(unfinished, step, first)[0]


def _largest(tree: Any) -> jax.Array:
    return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)]))
