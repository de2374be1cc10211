"""AutoAugment and RandAugment with TensorFlow's operations: which operation, how often, how strongly."""

import collections

import jax
import numpy as np
from policy_draws import DRAWS, MEAN
from scipy import stats

from jaxvision.augment import autoaugment, make_policy, tensorflow_ops, tensorflow_policies


def test_tensorflows_autoaugment_draws_v0(monkeypatch):
    """Pairs with their probabilities, and the arguments of tensorflow/tpu's constants."""
    layers = []
    monkeypatch.setattr(tensorflow_ops, "apply", lambda im, op, value, centre: layers.append((op, value)) or im)
    policy = make_policy("tf-v0", mean=MEAN, interpolation="bilinear")
    policy.apply(None, jax.random.uniform(jax.random.key(0), (DRAWS, policy.uniforms)))
    (first, a), (second, b) = [tuple(map(np.asarray, layer)) for layer in layers]
    pairs = autoaugment.PAIRS["v0"]
    expected = collections.Counter()
    for (op1, p1, _), (op2, p2, _) in pairs:
        for one, q1 in ((op1, p1), (None, 1 - p1)):
            for two, q2 in ((op2, p2), (None, 1 - p2)):
                expected[one, two] += q1 * q2 * DRAWS / len(pairs)
    names = [*tensorflow_ops.OPS, None]  # -1: nothing
    found = collections.Counter((names[i], names[j]) for i, j in zip(first, second, strict=True))
    keys = [key for key, count in expected.items() if count > 1e-6]
    assert set(found) <= set(keys)
    assert stats.chisquare([found[k] for k in keys], [expected[k] for k in keys]).pvalue > 1e-4
    # Level 9 of 10: 225 of 250 pixels; solarize at 10 wraps to 0 (inverts); posterize at 6 keeps 2 bits.
    assert set(np.abs(b[second == names.index("TranslateY")])) == {225.0}
    assert 0.0 in set(b[second == names.index("Solarize")]) and 2.0 in set(a[first == names.index("Posterize")])
    rotations = a[first == names.index("Rotate")]
    assert abs((rotations > 0).mean() - 0.5) < 0.02


def test_randaugment_chooses_operations_signs_and_centres_uniformly(monkeypatch):
    layers = []
    monkeypatch.setattr(tensorflow_ops, "apply", lambda im, *chosen: layers.append(chosen) or im)
    policy = tensorflow_policies.randaugment(2, 3.0, translate_const=10.0, cutout_const=20.0)
    policy.apply(None, jax.random.uniform(jax.random.key(0), (DRAWS, policy.uniforms)))
    assert len(layers) == 2
    for index, value, centre in layers:
        index, value = np.asarray(index), np.asarray(value)
        counts = np.bincount(index, minlength=len(tensorflow_ops.OPS))
        assert len(counts) == 16 and stats.chisquare(counts).pvalue > 1e-4
        for i, name in enumerate(tensorflow_ops.OPS):
            expected = np.float32(tensorflow_ops.argument(name, 3.0, 10.0, 20.0))
            signed = name in tensorflow_ops.SIGNED
            assert set(value[index == i]) == ({expected, -expected} if signed else {expected})
            assert not signed or abs((value[index == i] > 0).mean() - 0.5) < 0.03
        assert stats.kstest(np.ravel(centre), "uniform").pvalue > 1e-4
    assert (np.asarray(layers[0][0]) == np.asarray(layers[1][0])).mean() < 0.1  # the layers choose independently
