"""The rate of stochastic depth in each block: the rules, as the published code computes them, and who uses which."""

import sys
import types

import cli
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import config as config_lib
from jaxvision.errors import UserError
from jaxvision.main import load_config
from jaxvision.models.registry import build_module
from jaxvision.models.stochastic_depth import DROP_PATH_RULES
from jaxvision.train.build import build_network


def flat(rates):
    return [rate for stage in rates for rate in stage]


def test_rules_are_those_of_the_published_code():
    depths = (3, 4, 6, 3)
    expected = {
        "linear": np.linspace(0, 0.3, 16),  # timm, Swin, ConvNeXt, DeiT: torch.linspace(0, rate, sum(depths))
        "open_linear": [0.3 * i / 16 for i in range(16)],  # EfficientNet: rate * float(idx) / len(blocks)
        "stage": np.repeat([0.3 * 2 / 5, 0.3 * 3 / 5, 0.3 * 4 / 5, 0.3], depths),  # ResNet-RS: blocks 2 to 5 of 5
        "constant": np.full(16, 0.3),  # DeiT-III: [rate for i in range(depth)]
    }
    assert set(expected) == set(DROP_PATH_RULES)
    for name, rates in expected.items():
        found = DROP_PATH_RULES[name](0.3, depths)
        assert [len(stage) for stage in found] == list(depths)
        np.testing.assert_allclose(flat(found), rates, rtol=1e-12, atol=1e-12, err_msg=name)
    assert flat(DROP_PATH_RULES["linear"](0.3, [1])) == [0.0]


def recipe_rates(name, depths):
    """The rates of a config's network."""
    config = load_config(f"{cli.ROOT}/configs/{name}", [])
    config.model.weights = ""
    source = types.SimpleNamespace(num_classes=1000)
    return flat(build_network(config_lib.resolve(config), source).module.block_rates(depths))


@pytest.mark.parametrize(("recipe", "rate"), [("deit3_s.py", 0.05), ("deit3_s.py:b", 0.2)])
def test_deit3_drops_every_block_at_the_same_rate(recipe, rate):
    assert recipe_rates(recipe, [12]) == [rate] * 12


def test_the_other_recipes_rates_rise_as_in_their_sources():
    np.testing.assert_allclose(recipe_rates("deit_s.py", [12]), np.linspace(0, 0.1, 12))
    np.testing.assert_allclose(recipe_rates("swin_t.py", [2, 2, 6, 2]), np.linspace(0, 0.2, 12))
    np.testing.assert_allclose(recipe_rates("convnext_t.py", [3, 3, 9, 3]), np.linspace(0, 0.1, 18))
    np.testing.assert_allclose(recipe_rates("efficientnet_b0.py", [16]), np.arange(16) * 0.2 / 16)
    rising = np.repeat([0.04, 0.06, 0.08, 0.1], [3, 24, 36, 3])
    np.testing.assert_allclose(recipe_rates("resnet_rs50.py:200", [3, 24, 36, 3]), rising)


@pytest.mark.parametrize("name", ["resnet10t", "resnest14d", "convnext_atto", "vit_tiny_patch16_224",
                                  "simple_vit_tiny_patch16_224", "efficientnet_b0",
                                  "swin_tiny_patch4_window7_224"])  # fmt: skip
def test_every_family_takes_a_rule(name, monkeypatch):
    module, drawn = build_module(name, drop_path_rate=0.3, drop_path_rule="constant"), []
    size = module.image_size or (64, 64)
    monkeypatch.setattr(sys.modules[type(module).__module__], "drop_path", lambda x, rate, key: drawn.append(rate) or x)
    rngs = {"params": jax.random.key(0), "drop_path": jax.random.key(1)}
    jax.eval_shape(lambda: module.init(rngs, jnp.zeros((2, *size, 3)), train=True))
    assert drawn and set(drawn) == {0.3}


def test_an_unknown_rule_is_named():
    with pytest.raises(UserError, match="drop_path_rule = 'law': pass one of linear, open_linear, stage, constant"):
        build_module("resnet10t", drop_path_rule="law")
    config = config_lib.base_config()
    config.model.drop_path_rule = "law"
    with pytest.raises(UserError, match="expected one of auto, linear"):
        config_lib.resolve(config)
