"""Layer-wise learning rates: the depth of each parameter as timm groups it."""

import math

import jax
import numpy as np
import pytest
import torch
from reference import timm
from timm import optim as timm_optim

from jaxvision.errors import UserError
from jaxvision.models.registry import build_module
from jaxvision.models.variables import flat_shapes, init_variables
from jaxvision.optim.groups import choose_groups, layer_ids, rate_multiples

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


def convnexts_layer(name):
    """``get_num_layer_for_convnext`` of facebookresearch/ConvNeXt optim_factory.py, by that repository's names."""
    part, *rest = name.split(".")
    if part == "downsample_layers":
        return {0: 0, 1: 2, 2: 3, 3: 12}[int(rest[0])]
    if part == "stages":
        stage, block = int(rest[0]), int(rest[1])
        return {0: 1, 1: 2, 2: 3 + block // 3, 3: 12}[stage]
    return 13


@pytest.mark.parametrize("name", ["convnext_small", "convnext_base", "convnext_large"])
def test_convnexts_own_groups_are_its_codes(name):
    """Every parameter, through the table of names that also reads that repository's checkpoints."""
    module = build_module(name)
    theirs = {}
    for i in range(4):
        theirs |= {f"downsample_layers.{i}.{j}.{leaf}": None for j in (0, 1) for leaf in ("weight", "bias")}
        for block in range(module.depths[i]):
            layers = ("dwconv", "norm", "pwconv1", "pwconv2")
            theirs |= {f"stages.{i}.{block}.{layer}.{leaf}": None for layer in layers for leaf in ("weight", "bias")}
            theirs[f"stages.{i}.{block}.gamma"] = None
    theirs |= {f"{layer}.{leaf}": None for layer in ("norm", "head") for leaf in ("weight", "bias")}
    state, _ = module.to_timm_names({key: np.full((1,), convnexts_layer(key)) for key in theirs})
    ids = layer_ids(list(state), choose_groups("paper", type(module)))
    assert ids == [int(value[0]) for value in state.values()] and set(ids) == set(range(14))


def test_convnexts_layer_decay_reaches_the_first_block_with_a_hundredth():
    module = build_module("convnext_base")
    params = {"stem.0": {"weight": np.zeros(1)}, "head.fc": {"weight": np.zeros(1)}}
    params |= {f"stages.{s}.blocks.{b}": {"gamma": np.zeros(1)} for s in range(4) for b in range(module.depths[s])}
    multiples = {
        kind: rate_multiples(params, ((".*", 1.0),), groups=choose_groups(kind, type(module)), decay=0.7)
        for kind in ("timm", "paper")
    }
    first = {kind: tree["stages.0.blocks.0"]["gamma"] for kind, tree in multiples.items()}
    assert first == {"paper": pytest.approx(0.7**12), "timm": pytest.approx(0.7**36)}
    assert multiples["paper"]["stem.0"]["weight"] == pytest.approx(0.7**13)
    assert multiples["paper"]["stages.3.blocks.2"]["gamma"] == pytest.approx(0.7)
    assert multiples["paper"]["head.fc"]["weight"] == 1.0


def test_a_family_without_own_groups_says_so():
    with pytest.raises(UserError, match="ResNet has timm's groups of layers only"):
        choose_groups("paper", type(build_module("resnet18")))
