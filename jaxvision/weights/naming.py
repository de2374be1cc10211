"""Checkpoints under other names than timm's: torchvision's and the papers' own repositories.

A checkpoint is recognised by a key that only its family has, and renamed by regular
expressions. timm's names pass through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

State = dict[str, np.ndarray]
Rules = tuple[tuple[str, str], ...]

_VIT_TORCHVISION: Rules = (
    (r"class_token", "cls_token"),
    (r"conv_proj\.(.+)", r"patch_embed.proj.\1"),
    (r"encoder\.pos_embedding", "pos_embed"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.ln_(\d)\.(.+)", r"blocks.\1.norm\2.\3"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_(.+)", r"blocks.\1.attn.qkv.\2"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.(.+)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.(.+)", r"blocks.\1.mlp.fc1.\2"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.(.+)", r"blocks.\1.mlp.fc2.\2"),
    (r"encoder\.ln\.(.+)", r"norm.\1"),
    (r"heads\.head\.(.+)", r"head.\1"),
)
_CONVNEXT_META: Rules = (
    (r"downsample_layers\.0\.(.+)", r"stem.\1"),
    (r"downsample_layers\.(\d)\.(.+)", r"stages.\1.downsample.\2"),
    (r"stages\.(\d)\.(\d+)\.dwconv\.(.+)", r"stages.\1.blocks.\2.conv_dw.\3"),
    (r"stages\.(\d)\.(\d+)\.pwconv(\d)\.(.+)", r"stages.\1.blocks.\2.mlp.fc\3.\4"),
    (r"stages\.(\d)\.(\d+)\.grn\.gamma", r"stages.\1.blocks.\2.mlp.grn.weight"),
    (r"stages\.(\d)\.(\d+)\.grn\.beta", r"stages.\1.blocks.\2.mlp.grn.bias"),
    (r"stages\.(\d)\.(\d+)\.(.+)", r"stages.\1.blocks.\2.\3"),
    (r"norm\.(.+)", r"head.norm.\1"),
    (r"head\.(weight|bias)", r"head.fc.\1"),
)


def to_timm_names(state: Mapping[str, np.ndarray], family: str) -> tuple[State, str | None]:
    """The state dict under timm's names.

    ResNets have the same names everywhere.

    Args:
      state: plain names, without wrappers.
      family: class name of our module ("EfficientNet", "ConvNeXt", "Swin", "ViT"; others pass through).

    Returns:
      The renamed state, and whose names these were (None: timm's, unchanged).
    """
    if family == "ViT" and "conv_proj.weight" in state:
        return _rename(state, _VIT_TORCHVISION), "torchvision"
    if family == "ViT" and any(re.fullmatch(r"blocks\.\d+\.gamma_1", key) for key in state):
        return _rename(state, ((r"(blocks\.\d+)\.gamma_(\d)", r"\1.ls\2.gamma"),)), "the DeiT-III repository"
    if family == "ConvNeXt" and "downsample_layers.0.0.weight" in state:
        return _squeezed(_rename(state, _CONVNEXT_META), ".grn."), "the ConvNeXt repository"
    if family == "Swin" and "layers.0.downsample.reduction.weight" in state:
        return _swin_microsoft(state), "the Swin repository"
    if any(key.startswith("features.") for key in state):
        convert = {
            "ConvNeXt": _convnext_torchvision,
            "Swin": _swin_torchvision,
            "EfficientNet": _efficientnet_torchvision,
        }
        if family in convert:
            return convert[family](state), "torchvision"
    return dict(state), None


def torchvision_bn_eps(state: Mapping[str, np.ndarray]) -> float:
    """The BN epsilon of torchvision's EfficientNet with these (renamed) weights: 1e-3 for b5 to b7 and V2."""
    fused = "blocks.0.0.conv.weight" in state
    return 1e-3 if fused or state["conv_stem.weight"].shape[0] >= 48 else 1e-5


def _rename(state: Mapping[str, np.ndarray], rules: Rules) -> State:
    """Each key by the first rule that matches it whole; others stay."""
    compiled = [(re.compile(pattern), new) for pattern, new in rules]

    def one(key: str) -> str:
        for pattern, new in compiled:
            if match := pattern.fullmatch(key):
                return match.expand(new)
        return key

    return {one(key): value for key, value in state.items()}


def _squeezed(state: State, part: str) -> State:
    return {key: value.reshape(-1) if part in key else value for key, value in state.items()}


def _swin_microsoft(state: Mapping[str, np.ndarray]) -> State:
    """The repository merges patches at the end of a stage, timm at the start of the next."""
    moved = {re.sub(r"layers\.(\d)\.downsample", _one_later, key): value for key, value in state.items()}
    return _rename(moved, ((r"head\.(weight|bias)", r"head.fc.\1"),))


def _one_later(match: re.Match[str]) -> str:
    return f"layers.{int(match.group(1)) + 1}.downsample"


def _stages(state: Mapping[str, np.ndarray]) -> tuple[dict[int, int], dict[int, int]]:
    """torchvision's ``features.<n>`` in stages with blocks, and layers between them, each numbered in order."""
    numbers = sorted({int(key.split(".")[1]) for key in state if key.startswith("features.")})
    blocks = [n for n in numbers if n % 2 == 1]
    between = [n for n in numbers if n % 2 == 0 and n > 0]
    return {n: i for i, n in enumerate(blocks)}, {n: i + 1 for i, n in enumerate(between)}


def _convnext_torchvision(state: Mapping[str, np.ndarray]) -> State:
    blocks, between = _stages(state)
    part = {"0": "conv_dw", "2": "norm", "3": "mlp.fc1", "5": "mlp.fc2"}
    result = {}
    for key, value in state.items():
        if match := re.fullmatch(r"features\.0\.(.+)", key):
            key = f"stem.{match[1]}"
        elif match := re.fullmatch(r"features\.(\d+)\.(\d+)\.block\.(\d)\.(.+)", key):
            key = f"stages.{blocks[int(match[1])]}.blocks.{match[2]}.{part.get(match[3], match[3])}.{match[4]}"
        elif match := re.fullmatch(r"features\.(\d+)\.(\d+)\.layer_scale", key):
            key, value = f"stages.{blocks[int(match[1])]}.blocks.{match[2]}.gamma", value.reshape(-1)
        elif match := re.fullmatch(r"features\.(\d+)\.(\d)\.(.+)", key):
            key = f"stages.{between[int(match[1])]}.downsample.{match[2]}.{match[3]}"
        else:
            key = re.sub(r"^classifier\.2\.", "head.fc.", re.sub(r"^classifier\.0\.", "head.norm.", key))
        result[key] = value
    return result


def _swin_torchvision(state: Mapping[str, np.ndarray]) -> State:
    blocks, between = _stages(state)
    result = {}
    for key, value in state.items():
        if match := re.fullmatch(r"features\.0\.(0|2)\.(.+)", key):
            key = f"patch_embed.{'proj' if match[1] == '0' else 'norm'}.{match[2]}"
        elif match := re.fullmatch(r"features\.(\d+)\.(\d+)\.(.+)", key):
            rest = re.sub(r"^mlp\.3\.", "mlp.fc2.", re.sub(r"^mlp\.0\.", "mlp.fc1.", match[3]))
            key = f"layers.{blocks[int(match[1])]}.blocks.{match[2]}.{rest}"
        elif match := re.fullmatch(r"features\.(\d+)\.(norm|reduction)\.(.+)", key):
            key = f"layers.{between[int(match[1])]}.downsample.{match[2]}.{match[3]}"
        else:
            key = re.sub(r"^head\.(weight|bias)$", r"head.fc.\1", key)
        result[key] = value
    return result


def _efficientnet_torchvision(state: Mapping[str, np.ndarray]) -> State:
    """A block's parts are numbered in order, so their meaning follows from how many there are and from SE."""
    last = max(int(key.split(".")[1]) for key in state if key.startswith("features."))
    parts: dict[str, set[int]] = {}
    gates: dict[str, int] = {}
    for key in state:
        if match := re.match(r"features\.(\d+\.\d+)\.block\.(\d)\.", key):
            parts.setdefault(match[1], set()).add(int(match[2]))
            if ".fc1." in key:
                gates[match[1]] = int(match[2])

    def names(block: str) -> dict[int, tuple[str, str]]:
        """Convolution and normalisation of each numbered part."""
        count = len(parts[block])
        if block in gates:
            spatial = gates[block] - 1
            if spatial == 0:
                return {0: ("conv_dw", "bn1"), 2: ("conv_pw", "bn2")}
            return {0: ("conv_pw", "bn1"), 1: ("conv_dw", "bn2"), 3: ("conv_pwl", "bn3")}
        return {0: ("conv", "bn1")} if count == 1 else {0: ("conv_exp", "bn1"), 1: ("conv_pwl", "bn2")}

    result = {}
    for key, value in state.items():
        if match := re.fullmatch(rf"features\.(0|{last})\.(0|1)\.(.+)", key):
            stem = match[1] == "0"
            names_here = ("conv_stem", "bn1") if stem else ("conv_head", "bn2")
            key = f"{names_here[int(match[2])]}.{match[3]}"
        elif match := re.fullmatch(r"features\.(\d+)\.(\d+)\.block\.(\d)\.(fc\d|\d)\.(.+)", key):
            stage, block, part, inner, rest = match.groups()
            if inner.startswith("fc"):
                new = f"se.{'conv_reduce' if inner == 'fc1' else 'conv_expand'}"
            else:
                new = names(f"{stage}.{block}")[int(part)][int(inner)]
            key = f"blocks.{int(stage) - 1}.{block}.{new}.{rest}"
        else:
            key = re.sub(r"^classifier\.1\.", "classifier.", key)
        result[key] = value
    return result
