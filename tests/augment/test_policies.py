"""The table of policies by name, and what holds for all of them."""

import jax
import numpy as np
import pytest
from policy_draws import MEAN

from jaxvision.augment import POLICIES, make_policy
from jaxvision.augment.policies import policy_names
from jaxvision.errors import UserError
from jaxvision.ops.backend import lower_for


@pytest.mark.parametrize("interpolation", ["bilinear", "random"])
@pytest.mark.parametrize("text", policy_names())
def test_every_policy_of_the_table_is_made(text, interpolation):
    policy = make_policy(text, mean=MEAN, interpolation=interpolation)
    images = jax.ShapeDtypeStruct((2, 32, 40, 3), np.uint8)
    uniforms = jax.ShapeDtypeStruct((2, policy.uniforms), np.float32)
    assert jax.eval_shape(policy.apply, images, uniforms) == images


@pytest.mark.parametrize("text", ["trivail", "rand_m9", "random", "tv-rax", "trivial-m9", "original-m9", ""])
def test_an_unknown_policy_is_refused_with_all_names(text):
    with pytest.raises(UserError, match=repr(text)) as caught:
        make_policy(text, mean=MEAN, interpolation="bilinear")
    assert all(name in str(caught.value) for name in policy_names()) and len(policy_names()) == len(POLICIES)
    assert text != "trivail" or 'Did you mean "trivial"?' in str(caught.value)


@pytest.mark.parametrize("text", ["rand-m9-mstd0.5-inc1", "v0", "tf-v0", "trivial", "tv-imagenet", "3a"])
def test_on_a_cpu_a_policy_computes_nothing_twice_and_gives_the_same_pixels(text):
    """XLA:CPU fused each operation into all taps of the next one: nine times the work, and ten times the time."""
    policy = make_policy(text, mean=MEAN, interpolation="bicubic")
    images = np.random.default_rng(0).integers(0, 256, (16, 48, 40, 3), np.uint8)
    uniforms = jax.random.uniform(jax.random.key(1), (16, policy.uniforms))
    ours = jax.jit(lambda x, u: policy.apply(x, u)).lower(images, uniforms).compile()
    with lower_for("gpu"):
        other = jax.jit(lambda x, u: policy.apply(x, u)).lower(images, uniforms).compile()
    assert ours.cost_analysis()["flops"] < 0.7 * other.cost_analysis()["flops"]
    difference = np.abs(np.asarray(ours(images, uniforms), int) - np.asarray(other(images, uniforms), int))
    # A sum of products may be rounded otherwise, at a level's edge.
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-4
    assert (np.asarray(ours(images, uniforms)) != images).mean() > 0.2
