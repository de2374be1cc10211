"""The probes of frozen features give what scikit-learn gives."""

import warnings

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from jaxvision.inference import probe
from jaxvision.inference.probe import fit_linear, neighbour_votes


@pytest.fixture(scope="module")
def data():
    """Features of five classes that overlap, of very different scales, and 60 more of the same."""
    rng = np.random.default_rng(0)
    centers, scale = 0.7 * rng.standard_normal((5, 24)), rng.uniform(0.1, 10, 24)
    labels = rng.integers(0, 5, 360).astype(np.int32)
    features = ((centers[labels] + rng.standard_normal((360, 24))) * scale + 3).astype(np.float32)
    return features[:300], labels[:300], features[300:], labels[300:]


@pytest.mark.parametrize("count,temperature", [(20, 0.07), (1, 0.07), (5, 1.0), (300, 0.02)])
def test_votes_are_scikit_learns(data, count, temperature, monkeypatch):
    features, labels, queries, _ = data
    monkeypatch.setattr(probe, "_BLOCK", 17)  # several blocks, the last one smaller
    found = neighbour_votes(features, labels, queries, num_classes=6, neighbours=count, temperature=temperature)
    theirs = KNeighborsClassifier(count, metric="cosine", weights=lambda d: np.exp((1 - d) / temperature))
    expected = theirs.fit(features.astype(np.float64), labels).predict_proba(queries.astype(np.float64))
    assert found.shape == (60, 6) and not found[:, 5].any()
    np.testing.assert_allclose(found[:, :5], expected, atol=2e-5 if temperature < 0.05 else 3e-6)


def test_votes_of_few_images_of_low_temperatures_and_of_nothing(data):
    features, labels, queries, _ = data
    found = neighbour_votes(features[:3], [0, 1, 1], queries, num_classes=2, neighbours=20)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
    nearest = neighbour_votes(features, labels, queries, num_classes=5, neighbours=20, temperature=1e-6)
    one = neighbour_votes(features, labels, queries, num_classes=5, neighbours=1)
    np.testing.assert_array_equal(nearest.argmax(1), one.argmax(1))
    np.testing.assert_allclose(neighbour_votes(features, labels, queries * 0, num_classes=5).sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_the_linear_classifier_is_scikit_learns(data, l2):
    features, labels, queries, _ = data
    ours = fit_linear(features, labels, num_classes=5, l2=l2)
    mean, scale = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    theirs = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-8, max_iter=10_000)
    theirs.fit((features - mean) / scale, labels)
    np.testing.assert_allclose(ours.weights.T, theirs.coef_, atol=2e-3)
    expected = theirs.predict_proba((queries - mean) / scale)
    np.testing.assert_allclose(jax.nn.softmax(ours(queries)), expected, atol=1e-3)


def test_a_fit_that_begins_with_another_ends_at_the_same(data):
    features, labels, queries, _ = data
    cold = fit_linear(features, labels, num_classes=5, l2=1e-3)
    begin = fit_linear(features, labels, num_classes=5, l2=10.0)
    warm = fit_linear(features, labels, num_classes=5, l2=1e-3, start=begin)
    assert np.abs(begin.weights - cold.weights).max() > 0.1
    np.testing.assert_allclose(warm(queries), cold(queries), atol=5e-3)


def test_features_that_never_change_and_classes_without_images_do_no_harm(data):
    features, labels, queries, _ = data
    features, queries = features.copy(), queries.copy()
    features[:, 3] = queries[:, 3] = 7.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit_linear(features, labels, num_classes=6, l2=1e-2)
    assert np.isfinite(found(queries)).all() and not np.asarray(found.weights)[3].any()
    assert (found(queries).argmax(1) != 5).all()
