"""What counts as right: one rule for training, evaluation and tools/validate.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.train.metrics import EVAL_METRICS, TRAIN_METRICS, answers, in_top_k, metric_values


def naive(logits, label, k):
    """The label is right where fewer than k other classes are as good as it or better, or are NaN."""
    if np.isnan(logits[label]):
        return False
    rivals = 0
    for c, logit in enumerate(logits):
        if c != label and (np.isnan(logit) or logit >= logits[label]):
            rivals += 1
    return rivals < k


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("kind", ["distinct", "ties", "infinite", "nan"])
def test_top_k_is_the_naive_definition(k, kind):
    rng = np.random.default_rng(k)
    logits = rng.standard_normal((400, 7)).astype(np.float32)
    if kind != "distinct":
        logits = np.round(logits * 2)
    if kind in ("infinite", "nan"):
        logits[rng.random(logits.shape) < 0.2] = {"infinite": -np.inf, "nan": np.nan}[kind]
    labels = rng.integers(0, 7, 400).astype(np.int32)
    expected = [naive(row, label, k) for row, label in zip(logits, labels, strict=True)]
    found = jax.jit(in_top_k, static_argnums=2)(logits, labels, k)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert 0 < sum(expected) < 400
    if kind == "distinct":  # without ties it is what sorting gives
        order = np.argsort(-logits, axis=1)[:, :k]
        np.testing.assert_array_equal(found, (order == labels[:, None]).any(1))


@pytest.mark.parametrize("kind", ["distinct", "ties", "infinite", "nan"])
def test_an_answer_is_the_label_only_where_it_counts_as_right(kind):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((400, 3)).astype(np.float32)
    if kind != "distinct":
        logits = np.round(logits)
    if kind in ("infinite", "nan"):
        logits[rng.random(logits.shape) < 0.4] = {"infinite": -np.inf, "nan": np.nan}[kind]
    labels = rng.integers(0, 3, 400).astype(np.int32)
    found, confidence = jax.jit(answers)(logits, labels)
    np.testing.assert_array_equal(found == labels, np.asarray(in_top_k(logits, labels, 1)) > 0)
    if kind == "distinct":
        np.testing.assert_array_equal(found, logits.argmax(1))
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(confidence, probabilities.max(1), rtol=1e-5)


def test_constant_logits_are_never_right():
    logits, labels = jnp.full((10, 1000), 0.25), jnp.arange(10)
    values = metric_values(EVAL_METRICS, logits, labels)
    values |= metric_values(TRAIN_METRICS, logits, labels, jnp.zeros(10))
    assert {name: float(values[name].max()) for name in ("accuracy", "top1", "top5")} == {
        "accuracy": 0.0, "top1": 0.0, "top5": 0.0,
    }  # fmt: skip
