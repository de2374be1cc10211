"""Other repositories' names of EfficientNet's parameters, as timm's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jaxvision.models.renaming import State, rename


def from_efficientnet_pytorch(state: State, depths: Sequence[int]) -> State:
    """lukemelas/EfficientNet-PyTorch's names to timm's: it numbers the blocks through all stages.

    Args:
      state: arrays by its names, such as ``_blocks.3._depthwise_conv.weight``.
      depths: number of blocks of each stage.
    """
    gates = [("_se_reduce", "se.conv_reduce"), ("_se_expand", "se.conv_expand")]
    narrow = [("_depthwise_conv", "conv_dw"), ("_bn1", "bn1"), ("_project_conv", "conv_pw"), ("_bn2", "bn2")]
    wide = [("_expand_conv", "conv_pw"), ("_bn0", "bn1"), ("_depthwise_conv", "conv_dw"), ("_bn1", "bn2")]
    wide += [("_project_conv", "conv_pwl"), ("_bn2", "bn3")]
    pairs = [("_conv_stem", "conv_stem"), ("_bn0", "bn1"), ("_conv_head", "conv_head"), ("_bn1", "bn2")]
    pairs += [("_fc", "classifier")]
    places = [f"blocks.{stage}.{block}" for stage, depth in enumerate(depths) for block in range(depth)]
    for number, place in enumerate(places):
        layers = wide if f"_blocks.{number}._expand_conv.weight" in state else narrow
        pairs += [(f"_blocks.{number}.{theirs}", f"{place}.{ours}") for theirs, ours in layers + gates]
    return rename(state, [(rf"{re.escape(theirs)}\.(.+)", rf"{ours}.\1") for theirs, ours in pairs])


def from_torchvision(state: State) -> State:
    """torchvision's names to timm's.

    torchvision numbers the layers of a block, so what a number means depends on how many there are and on whether one
    is a squeeze-and-excitation.
    """
    last = max(int(name.split(".")[1]) for name in state if name.startswith("features."))
    layers: dict[str, set[int]] = {}
    gates: dict[str, int] = {}
    for name in state:
        if match := re.match(r"features\.(\d+\.\d+)\.block\.(\d)\.", name):
            layers.setdefault(match[1], set()).add(int(match[2]))
            if ".fc1." in name:
                gates[match[1]] = int(match[2])

    def layer_names(block: str) -> dict[int, tuple[str, str]]:
        """Convolution and normalisation of each numbered layer of a block."""
        if block in gates:
            if gates[block] == 1:
                return {0: ("conv_dw", "bn1"), 2: ("conv_pw", "bn2")}
            return {0: ("conv_pw", "bn1"), 1: ("conv_dw", "bn2"), 3: ("conv_pwl", "bn3")}
        if len(layers[block]) == 1:
            return {0: ("conv", "bn1")}
        return {0: ("conv_exp", "bn1"), 1: ("conv_pwl", "bn2")}

    result = {}
    for name, value in state.items():
        if match := re.fullmatch(rf"features\.(0|{last})\.(0|1)\.(.+)", name):
            names = ("conv_stem", "bn1") if match[1] == "0" else ("conv_head", "bn2")
            name = f"{names[int(match[2])]}.{match[3]}"
        elif match := re.fullmatch(r"features\.(\d+)\.(\d+)\.block\.(\d)\.(fc\d|\d)\.(.+)", name):
            stage, block, layer, inner, rest = match.groups()
            if inner.startswith("fc"):
                new = f"se.{'conv_reduce' if inner == 'fc1' else 'conv_expand'}"
            else:
                new = layer_names(f"{stage}.{block}")[int(layer)][int(inner)]
            name = f"blocks.{int(stage) - 1}.{block}.{new}.{rest}"
        else:
            name = re.sub(r"^classifier\.1\.", "classifier.", name)
        result[name] = value
    return result
