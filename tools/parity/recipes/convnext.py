"""convnext_t: facebookresearch/ConvNeXt, main.py and TRAINING.md."""

from __future__ import annotations

import numpy as np

from tools.parity.recipes import torch_formulas as formulas
from tools.parity.recipes.facts import Fact, Facts, Repository, average, sequence
from tools.parity.recipes.timm_train import ADAMW, CROP, RANDAUGMENT_9, smoothed_cross_entropy

REPOSITORY = Repository("facebookresearch/ConvNeXt", "048efcea897d999aed302f2639b6270aedf8d4c8")
RECIPES = {"convnext_t": ("t", "s", "b"), "convnext_finetune": ("b", "l")}
# timm's name, depths, stochastic depth, line of TRAINING.md
MODELS = {
    "t": ("convnext_tiny", (3, 3, 9, 3), 0.1, "TRAINING.md:16-22"),
    "s": ("convnext_small", (3, 3, 27, 3), 0.4, "TRAINING.md:50-56"),
    "b": ("convnext_base", (3, 3, 27, 3), 0.5, "TRAINING.md:76-82"),
}
# timm's name, stochastic depth, line of TRAINING.md
TUNED = {"b": ("convnext_base", 0.8, "TRAINING.md:300-309"), "l": ("convnext_large", 0.95, "TRAINING.md:329-338")}
IMAGES, BATCH, EPOCHS, WARMUP, PEAK, END = 1_281_167, 4096, 300, 20, 4e-3, 1e-6


def rate(peak: float, epochs: int, warmup: int, per_epoch: int) -> np.ndarray:
    """The whole schedule: a warm-up that reaches the peak with its last step, then a cosine."""
    steps = (epochs - warmup) * per_epoch
    cosine = END + 0.5 * (peak - END) * (1 + np.cos(np.pi * np.arange(steps) / steps))
    return np.concatenate([np.linspace(0, peak, warmup * per_epoch), cosine])


def decays(name: str, ndim: int, _norm: bool) -> bool:
    """optim_factory.py's rule."""
    return ndim > 1 and not name.endswith(".bias")


def training(variant: str) -> Facts:
    """From scratch."""
    model, depths, depth, command = MODELS[variant]
    at = REPOSITORY.at
    per_epoch = IMAGES // BATCH
    whole = rate(PEAK, EPOCHS, WARMUP, per_epoch)
    return {
        "batch": Fact(BATCH, at(command)),
        "replicas": Fact(4 * 8, at(command)),
        "image size": Fact(224, at("main.py:58")),
        "steps": Fact(len(whole), at("main.py:328,358", "utils.py:431-444")),
        "stochastic depth": Fact(formulas.linspace(depth, sum(depths)), at("models/convnext.py:86-90", command)),
        "dropout": Fact(0.0, at("models/convnext.py:56-110")),
        "learning rate": Fact(
            sequence(lambda steps: whole[steps], len(whole), per_epoch, WARMUP, EPOCHS),
            at("utils.py:428-445", "main.py:90-96,358"),
        ),
        "weight decay": Fact({"form": "decoupled", "share at the peak": PEAK * 0.05}, at("main.py:84-89,363-366")),
        "decayed parameters": Fact(formulas.decay_groups(model, decays), at("optim_factory.py:80-85")),
        "optimizer": Fact(ADAMW, at("main.py:74-79", "optim_factory.py:150-152")),
        "gradient clipping": Fact(0.0, at("main.py:80")),
        "ema": Fact(average(lambda _: 0.9999), at("main.py:69", "engine.py:72-75", command)),
        "crop": Fact(CROP, at("datasets.py:58-69")),
        "train filter": Fact("bicubic antialiased", at("main.py:107")),
        "repeated augmentation": Fact(1, at("main.py:240-262")),
        "policy": Fact([RANDAUGMENT_9], at("main.py:103")),
        "color jitter": Fact(0.0, at("datasets.py:61-62", "main.py:101-103")),
        "flip": Fact(formulas.timm_flip(), at("datasets.py:58-69")),
        "erasing": Fact(formulas.erasing(0.25, (0.02, 1 / 3), (0.3, 1 / 0.3), 1, 224), at("main.py:114-122")),
        "erased values": Fact("pixel", at("main.py:116")),
        "mixing": Fact(
            {"partner": "mirrored", "drawn per": "batch"} | formulas.timm_mixing(0.8, 1.0, 224), at("main.py:124-135")
        ),
        "loss": Fact(formulas.losses(smoothed_cross_entropy(0.1)), at("main.py:105,370-376")),
        "evaluation size": Fact(224, at("main.py:58")),
        "evaluation crop": Fact(
            {"order": "resize, crop", "kept": 224 / int(224 / (224 / 256))}, at("datasets.py:85-92")
        ),
        "evaluation filter": Fact("bicubic antialiased", at("datasets.py:90")),
    }


def layer(name: str) -> int:
    """The layer of a part of the network, by timm's names: each three blocks of the third stage are one."""
    stage, _, part = name.removeprefix("stages.").partition(".")
    if name == "stem":
        return 0
    if name == "head":
        return 13
    if part == "downsample":
        return 12 if stage == "3" else int(stage) + 1
    return {"0": 1, "1": 2, "2": 3 + int(part.rpartition(".")[2]) // 3, "3": 12}[stage]


def layer_rates() -> dict[str, float]:
    """The multiple of the learning rate of each part: 0.7 to the number of layers above it."""
    parts = ["stem", "head", *(f"stages.{stage}.downsample" for stage in (1, 2, 3))]
    parts += [f"stages.{stage}.blocks.{block}" for stage, depth in enumerate((3, 3, 27, 3)) for block in range(depth)]
    return {part: 0.7 ** (13 - layer(part)) for part in parts}


def tuning(variant: str) -> Facts:
    """At 384 px, from the weights of 300 epochs at 224 px."""
    model, depth, command = TUNED[variant]
    at, per_epoch, peak, epochs = REPOSITORY.at, IMAGES // 512, 5e-5, 30
    whole = rate(peak, epochs, 0, per_epoch)
    return training("b") | {
        "batch": Fact(512, at(command)),
        "replicas": Fact(2 * 8, at(command)),
        "image size": Fact(384, at(command)),
        "steps": Fact(len(whole), at("main.py:328,358", "utils.py:431-444", command)),
        "stochastic depth": Fact(formulas.linspace(depth, 36), at("models/convnext.py:86-90", command)),
        "learning rate": Fact(
            sequence(lambda steps: whole[steps], len(whole), per_epoch, 0, epochs),
            at("utils.py:428-445", "main.py:93", command),
        ),
        "weight decay": Fact({"form": "decoupled", "share at the peak": peak * 1e-8}, at(command)),
        "decayed parameters": Fact(formulas.decay_groups(model, decays), at("optim_factory.py:80-85")),
        "layer rates": Fact(layer_rates(), at("optim_factory.py:32-70", "main.py:335-341", command)),
        "ema": Fact("none", at("main.py:68", command)),
        "erasing": Fact(formulas.erasing(0.25, (0.02, 1 / 3), (0.3, 1 / 0.3), 1, 384), at("main.py:114-122")),
        "mixing": Fact("none", at(command)),
        "evaluation size": Fact(384, at(command)),
        "evaluation crop": Fact({"order": "squash", "kept": 1.0}, at("datasets.py:77-83")),
        "evaluation filter": Fact("bicubic antialiased", at("datasets.py:79-82")),
    }


def facts(config: str, variant: str) -> Facts:
    """Every fact of one variant."""
    return training(variant) if config == "convnext_t" else tuning(variant)
