"""Embeddings of a data set, and the probes on them."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import jaxvision
from jaxvision.data import sources
from jaxvision.errors import UserError
from jaxvision.preprocessing import preprocessing
from jaxvision.train import probe
from jaxvision.train.probe import Features


@pytest.fixture(scope="module")
def model():
    return jaxvision.create_model("resnet10t", key=jax.random.key(0))


def test_embeddings_are_the_models_in_the_order_of_the_data(model):
    rng = np.random.default_rng(0)
    source = sources.ArraySource(rng.integers(0, 256, (11, 40, 36, 3), np.uint8), np.arange(11) % 3)
    settings, told = preprocessing(model.spec, size=32), []
    found = probe.embed(model, settings, source, batch_size=4, said=told.append)
    expected = model.embed(settings([source.read(i)[0] for i in range(11)]))
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.labels, np.arange(11) % 3)
    assert told == [8, 11]  # of eight devices
    bad = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), model)
    with pytest.raises(UserError, match="the embeddings of 11 of 11 images are NaN or infinite"):
        probe.embed(bad, settings, source, batch_size=8)


def noisy(count, seed, features=40):
    """Four classes in 40 features of which four matter: without a penalty a classifier learns the noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count).astype(np.int32)
    values = rng.standard_normal((count, features)).astype(np.float32)
    values[np.arange(count), labels] += 2.0
    return Features(values, labels)


def test_the_strength_is_chosen_on_held_out_images():
    train, evaluation = noisy(150, 0), noisy(2000, 1)
    found = probe.linear_probe(train, evaluation, num_classes=4)
    assert list(found.held_out) == list(probe.STRENGTHS) and found.held_out[found.l2] == max(found.held_out.values())
    assert 1e-3 < found.l2 < 10
    mean, scale = train.values.mean(0), train.values.std(0)
    theirs = LogisticRegression(C=1 / (found.l2 * 150), max_iter=5000, tol=1e-8)
    theirs.fit((train.values - mean) / scale, train.labels)
    score = theirs.score((evaluation.values - mean) / scale, evaluation.labels)
    assert found.top1 == pytest.approx(100 * score, abs=0.2)  # on all training images, the held-out ones too
    weakest = probe.linear_probe(train, evaluation, num_classes=4, strengths=(1e-6,))
    assert found.top1 > weakest.top1 + 2
    with pytest.raises(UserError, match="9 training images are too few"):
        probe.linear_probe(Features(train.values[:9], train.labels[:9]), evaluation, num_classes=4)


def test_ties_are_wrong():
    train = Features(np.eye(4, dtype=np.float32), np.arange(4, dtype=np.int32))
    evaluation = Features(np.float32([[1, 0, 0, 0], [1, 1, 0, 0]]), np.int32([0, 0]))
    arguments = {"num_classes": 4, "neighbours": 2, "temperature": 0.07}
    assert probe.neighbour_probe(train, evaluation, **arguments) == 50
    assert probe.top1(np.zeros((3, 2)), np.zeros(3, np.int32)) == 0
