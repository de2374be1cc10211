"""Layer-wise learning rates: the depth of each parameter as timm groups it."""

import math

import jax
import pytest
import torch
from reference import timm
from timm import optim as timm_optim

from jaxvision.models.registry import build_module
from jaxvision.models.variables import flat_shapes, init_variables
from jaxvision.optim.groups import layer_ids, rate_multiples

NAMES = [
    "resnet18", "resnetrs50", "seresnext50_32x4d", "resnest26d", "tf_efficientnet_b0", "efficientnetv2_rw_t",
    "convnext_atto", "convnext_tiny_hnf", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256",
    "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224",
]  # fmt: skip


@pytest.mark.zoo
@pytest.mark.parametrize("name", NAMES)
def test_rates_are_timms(name):
    with torch.device("meta"):
        theirs = timm.create_model(name)
    groups = timm_optim.param_groups_layer_decay(theirs, layer_decay=0.75)
    by_id = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    expected = {key: by_id[id(p)] for key, p in theirs.named_parameters()}
    module = build_module(name)
    shapes = flat_shapes(module, 3)
    ids = layer_ids(list(shapes), module.layer_groups)
    found = {key: 0.75 ** (max(ids) - i) for key, i in zip(shapes, ids, strict=True)}
    assert {k: round(math.log(v, 0.75)) for k, v in found.items()} == {
        k: round(math.log(v, 0.75)) for k, v in expected.items()
    }


def test_multiples_are_rules_times_decay_and_zero_where_frozen():
    module = build_module("resnet10t", num_classes=3)
    params = init_variables(module, jax.random.key(0))["params"]
    rules = ((r"fc\..*", 10.0), (r"(?!fc\.).*", 1.0))
    multiples = rate_multiples(params, rules, groups=module.layer_groups, decay=0.5, freeze=r"conv1\..*")
    assert multiples["fc"]["weight"] == 10.0 and multiples["layer4.0"]["conv1"]["weight"] == 0.5
    assert multiples["layer1.0"]["bn1"]["bias"] == 0.5**4 and multiples["bn1"]["weight"] == 0.5**5
    assert not any(jax.tree.leaves([multiples[key] for key in multiples if key.startswith("conv1")]))
