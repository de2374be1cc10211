"""Checkpoints of a trainer's own class, in front of whose names stands an attribute."""

import jax
import numpy as np
import pytest

import jaxvision
from jaxvision.errors import UserError

NAMES = ["resnet10t", "vit_tiny_patch16_224", "efficientnet_b0", "convnext_atto", "swin_tiny_patch4_window7_224"]


def make(name):
    return jaxvision.create_model(name, num_classes=3, key=jax.random.key(0))


@pytest.fixture(scope="module")
def models():
    return {name: make(name) for name in NAMES}


def named(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", ["encoder.", "0.", "learner.student."])
def test_a_prefix_that_all_names_share_is_removed(models, name, prefix):
    state = jaxvision.to_torch(models[name])
    loaded = jaxvision.create_model(name, weights=named(prefix, state))
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(models[name]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", ["model.", "learner.student."])
def test_what_is_left_over_beside_a_prefix_is_named_with_the_line_that_helps(models, name, prefix):
    state = jaxvision.to_torch(models[name])
    state_dict = named(prefix, state) | {"loss.weight": np.ones(3, np.float32)}
    with pytest.raises(UserError) as caught:
        jaxvision.create_model(name, weights={"state_dict": state_dict, "epoch": 3})
    message = str(caught.value)
    assert (
        f"{len(state) + 1} keys, of which {len(state)} have the prefix '{prefix}'; left over: loss.weight." in message
    )
    assert "missing" not in message and "\n" not in message
    line = message.partition("without it: ")[2].removesuffix(".")
    jaxvision.create_model(name, weights=eval(line, {"state_dict": state_dict}))


def test_a_head_of_its_own_is_named_with_what_is_missing(models):
    state = jaxvision.to_torch(models["resnet10t"])
    apart = {f"head.{name.removeprefix('fc.')}": state.pop(name) for name in ("fc.weight", "fc.bias")}
    message = (
        r"left over: head.bias, head.weight\. .* Still missing are then fc.bias, fc.weight: rename what was left over"
    )
    with pytest.raises(UserError, match=message):
        jaxvision.load_weights(models["resnet10t"], named("backbone.", state) | apart)


def test_another_network_behind_a_prefix_is_still_all_its_problems(models):
    state = named("model.", jaxvision.to_torch(models["convnext_atto"])) | {"loss.weight": np.ones(3, np.float32)}
    with pytest.raises(UserError, match=r"problems with the weights:\n.*unknown key loss.weight"):
        jaxvision.load_weights(models["resnet10t"], state)
