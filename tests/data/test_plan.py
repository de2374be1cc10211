"""The plan: order, coverage, and independence from the number of processes."""

import numpy as np
import pytest

from jaxvision.data.plan import Plan


@pytest.mark.parametrize("n", [1, 5, 500])
@pytest.mark.parametrize("shards", [1, 2, 3, 8])
def test_evaluation_covers_every_example_once(n, shards):
    plans = [Plan(n, 24, seed=0, train=False, shard=s, shards=shards) for s in range(shards)]
    ids = np.concatenate([np.concatenate([p.ids(step) for p in plans]) for step in range(plans[0].eval_steps)])
    np.testing.assert_array_equal(ids[ids >= 0], np.arange(n))
    assert (ids[n:] == -1).all()


def test_training_epochs_are_permutations_without_seams():
    n, batch = 50, 16
    plan = Plan(n, batch, seed=3, train=True)
    stream = np.concatenate([plan.ids(step) for step in range(25)])
    epochs = stream[: 8 * n].reshape(8, n)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(n))
    assert len({tuple(epoch) for epoch in epochs}) == 8
    assert (Plan(n, batch, seed=4, train=True).ids(0) != plan.ids(0)).any()


@pytest.mark.parametrize("shards", [2, 4])
def test_shares_of_processes_make_the_same_global_batch(shards):
    whole = Plan(100, 16, seed=1, train=True)
    parts = [Plan(100, 16, seed=1, train=True, shard=s, shards=shards) for s in range(shards)]
    for step in (0, 7, 700_000):
        np.testing.assert_array_equal(np.concatenate([p.ids(step) for p in parts]), whole.ids(step))
        np.testing.assert_array_equal(np.concatenate([p.uniforms(step, 5) for p in parts]), whole.uniforms(step, 5))


def test_uniforms_are_uniform_and_independent():
    u = Plan(1000, 1000, seed=0, train=True).uniforms(3, 40)
    assert u.shape == (1000, 40) and u.min() >= 0 and u.max() < 1
    counts = np.histogram(u, 20, (0, 1))[0]
    expected = u.size / 20
    assert ((counts - expected) ** 2 / expected).sum() < 45  # chi-square, 19 degrees: p = 0.0007
    correlation = np.corrcoef(u.T)
    assert np.abs(correlation - np.eye(40)).max() < 5 / np.sqrt(1000)
    assert not np.array_equal(u, Plan(1000, 1000, seed=1, train=True).uniforms(3, 40))


def test_repeated_augmentation_deals_copies_as_deits_sampler():
    """The reference repeats each index, deals the list to the GPUs in turn and cuts it to the epoch's length."""
    n, batch, gpus, repeats = 48, 16, 4, 3
    plan = Plan(n, batch, seed=5, train=True, repeats=repeats, deal=gpus)
    order = Plan(n, n, seed=5, train=True).ids(0)
    dealt = np.repeat(order, repeats)
    for step in range(n // batch):
        per_gpu = plan.ids(step).reshape(gpus, -1)
        for gpu in range(gpus):
            expected = dealt[gpu::gpus][step * 4 : step * 4 + 4]
            np.testing.assert_array_equal(per_gpu[gpu], expected)
        for gpu in per_gpu:
            assert len(set(gpu)) == len(gpu)  # no two copies of one image on a GPU
    epoch = np.concatenate([plan.ids(step) for step in range(3)])
    assert len(set(epoch)) == n // repeats and set(np.unique(epoch, return_counts=True)[1]) == {repeats}
    # Every copy has its own random numbers, and processes share the batch as ever.
    assert len(np.unique(plan.uniforms(0, 4), axis=0)) == batch
    parts = [Plan(n, batch, seed=5, train=True, repeats=3, deal=4, shard=s, shards=2).ids(7) for s in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), plan.ids(7))


def test_bad_sizes_are_errors():
    with pytest.raises(ValueError, match="at least one"):
        Plan(0, 4, seed=0, train=True)
    with pytest.raises(ValueError, match="cannot be split"):
        Plan(10, 5, seed=0, train=True, shards=2)


def test_the_whole_plan_is_all_shares_together():
    shares = [Plan(50, 12, seed=3, train=True, shard=i, shards=3, repeats=3, deal=2) for i in range(3)]
    for step in (0, 7):
        together = np.concatenate([share.ids(step) for share in shares])
        np.testing.assert_array_equal(shares[1].whole().ids(step), together)
        assert len(set(together)) <= 6  # most of them three times
