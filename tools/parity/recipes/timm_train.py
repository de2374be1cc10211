"""timm's own training: ResNet strikes back (resnet50_a1, a2, a3, resnet50d_a1) and seresnext50.

Also what DeiT, ConvNeXt and Swin take from timm: crop, RandAugment, smoothed loss, rule of decay.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from tools.parity.recipes import draws
from tools.parity.recipes import torch_formulas as formulas
from tools.parity.recipes.facts import Fact, Facts, Repository, by_epoch, sequence

RELEASE = Repository("huggingface/pytorch-image-models", "b1c2e3eb92c85e460ca90133b93bbbf5476f927e")  # 2021-10-01
SPRING = Repository("huggingface/pytorch-image-models", "ba793f5c1c01fd0594039bc9d4752177cb0fcd85")  # 2020-05-01
DOCS = Repository("huggingface/pytorch-image-models", "aa4b5850c1543fa488abf260f18390eda46cf85d")
PORT = Repository("open-mmlab/mmpretrain", "0bbbb04429c25110c1691ed3441b1e897250b6d3")
PAPER = "arXiv:2110.00476 Table 2"
COMMAND = "hfdocs/source/training_script.mdx:100"
RECIPES = {
    "resnet50_a1": ("",),
    "resnet50_a2": ("",),
    "resnet50_a3": ("",),
    "resnet50d_a1": ("",),
    "seresnext50": ("",),
}

CROP = "torchvision, area 0.08-1, ratio 3/4-4/3"
RANDAUGMENT_6 = "timm rand-m6-mstd0.5-inc1"
RANDAUGMENT_7 = "timm rand-m7-mstd0.5-inc1"
RANDAUGMENT_9 = "timm rand-m9-mstd0.5-inc1"
LEVELS = tuple(
    range(11)
)  # magnitudes at which arguments are written down; between them they are linear but for rounding

# epochs, image size, rate, decay, smoothing, mixup, stochastic depth, repeats, policy
STRIKES_BACK = {
    "a1": (600, 224, 5e-3, 0.01, 0.1, 0.2, 0.05, 3, RANDAUGMENT_7),
    "a2": (300, 224, 5e-3, 0.02, 0.0, 0.1, 0.05, 3, RANDAUGMENT_7),
    "a3": (100, 160, 8e-3, 0.02, 0.0, 0.1, 0.0, 1, RANDAUGMENT_6),
}
BLOCKS = 16  # of ResNet-50, -50-D and SE-ResNeXt-50

ADAMW = {"rule": "adamw", "b1": 0.9, "b2": 0.999, "eps": 1e-8, "first moment": "float32"}


def decays(name: str, ndim: int, _norm: bool) -> bool:
    """timm's ``add_weight_decay``."""
    return ndim > 1 and not name.endswith(".bias")


def linear_depth(rate: float, blocks: int) -> list[float]:
    """Of 0 to ``rate`` over the blocks."""
    return [rate * block / (blocks - 1) for block in range(blocks)]


def smoothed_cross_entropy(smoothing: float) -> Callable[[Any, Any, Any, float], Any]:
    """timm's ``SoftTargetCrossEntropy`` on the smoothed and mixed targets of its ``Mixup``."""
    from timm.loss import SoftTargetCrossEntropy

    criterion = SoftTargetCrossEntropy()
    return lambda logits, labels, partners, lam: criterion(
        logits, formulas.timm_targets(labels, partners, lam, smoothing).to(logits.dtype)
    )


def binary_cross_entropy(smoothing: float) -> Callable[[Any, Any, Any, float], Any]:
    """timm's ``BinaryCrossEntropy`` without a threshold, on the same targets."""
    from timm.loss import BinaryCrossEntropy

    criterion = BinaryCrossEntropy(smoothing=smoothing)
    return lambda logits, labels, partners, lam: criterion(
        logits, formulas.timm_targets(labels, partners, lam, smoothing).to(logits.dtype)
    )


def randaugment(magnitude: int) -> dict[str, Any]:
    """timm's own operations with their own arguments: at each level, with both signs, and as its policy draws them."""
    from timm.data.auto_augment import rand_augment_transform

    hparams = {"translate_const": int(224 * 0.45), "img_mean": (124, 116, 104)}
    policy = rand_augment_transform(f"rand-m{magnitude}-mstd0.5-inc1", hparams)
    operations = {}
    random.seed(0)
    for op in policy.ops:
        name = op.name.removesuffix("Increasing").removesuffix("Rel")
        operations[name] = {"share": op.prob / len(policy.ops)}
        if op.level_fn is None:
            continue
        by_level = []
        for level in LEVELS:
            by_level.append(sorted({op.level_fn(level, op.hparams)[0] for _ in range(20)}))
        drawn: list[float] = []
        op.prob, op.aug_fn = 1.0, lambda image, argument, drawn=drawn, **_: drawn.append(argument)
        for _ in range(20_000):
            op(None)
        operations[name] |= {"arguments": by_level, "drawn": draws.distribution(np.array(drawn))}
    return {"layers": policy.num_layers, "fill": [124, 116, 104], "operations": operations}


def crops() -> dict[str, Fact]:
    """The distributions of crops, by name."""
    where = RELEASE.at("timm/data/transforms.py:121-157")
    return {CROP: Fact(formulas.torchvision_crops((0.08, 1.0), (3 / 4, 4 / 3)), where)}


def policies() -> dict[str, Fact]:
    """The policies, by name."""
    where = RELEASE.at("timm/data/auto_augment.py:258-372,565-700")
    return {
        name: Fact(randaugment(magnitude), where)
        for name, magnitude in ((RANDAUGMENT_6, 6), (RANDAUGMENT_7, 7), (RANDAUGMENT_9, 9))
    }


def strikes_back(model: str, variant: str) -> Facts:
    """A1, A2 or A3."""
    epochs, size, peak, decay, smoothing, mixup, depth, repeats, policy = STRIKES_BACK[variant]
    lines = "58-60" if model == "resnet50d" else "55-57"  # of the network's evaluation settings
    at, per_epoch = RELEASE.at, 625  # 8 x 256; samplers of 160,146 or 160,128 images, and the last batch is dropped
    rates = formulas.cosine_epochs(peak, 1e-6, 1e-4, 5, epochs, epochs)
    formula = linear_depth(depth, BLOCKS)
    if depth:
        np.testing.assert_allclose(formulas.depth_of_timm(model, depth), formula[1:], rtol=1e-6)
    mixing = {"partner": "mirrored", "drawn per": "batch"} | formulas.timm_mixing(mixup, 1.0, size)
    return {
        "batch": Fact(2048, PAPER),
        "replicas": Fact(4, "arXiv:2110.00476, which names 4 V100 for A1; the others are taken to be alike"),
        "image size": Fact(size, PAPER),
        "steps": Fact(
            epochs * per_epoch, f"{PAPER}; {at('timm/data/loader.py:220-245', 'timm/data/distributed_sampler.py')}"
        ),
        "stochastic depth": Fact(formula, f"{PAPER}; {at('timm/models/resnet.py:494')}"),
        "dropout": Fact(0.0, PAPER),
        "learning rate": Fact(
            sequence(by_epoch(rates, per_epoch), epochs * per_epoch, per_epoch, 5, epochs),
            f"{PAPER}; start and end are timm's defaults: "
            + at("train.py:149-161,628", "timm/scheduler/cosine_lr.py:60-105"),
        ),
        "weight decay": Fact({"form": "decoupled", "share at the peak": peak * decay}, PAPER),
        "decayed parameters": Fact(formulas.decay_groups(model, decays), at("timm/optim/optim_factory.py:31-43")),
        "optimizer": Fact(ADAMW | {"rule": "lamb", "eps": 1e-6}, at("timm/optim/lamb.py:82-98", "train.py:116")),
        "gradient clipping": Fact(1.0, at("timm/optim/lamb.py:82-113")),
        "ema": Fact("none", PAPER),
        "crop": Fact(CROP, at("timm/data/transforms_factory.py:70-73")),
        "train filter": Fact("bilinear or bicubic at random, antialiased", at("train.py:219")),
        "repeated augmentation": Fact(repeats, PAPER),
        "policy": Fact([policy], PAPER),
        "color jitter": Fact(0.0, at("timm/data/transforms_factory.py:97")),
        "flip": Fact(formulas.timm_flip(), at("train.py:177")),
        "erasing": Fact("none", PAPER),
        "mixing": Fact(mixing, f"{PAPER}; {at('timm/data/mixup.py:77-160,195-210')}"),
        "loss": Fact(
            {"one label": formulas.losses(binary_cross_entropy(smoothing))["one label"]},
            f"BCE: {PAPER}; smoothing {smoothing}; whether the published runs set mixed targets to 1 is not settled "
            "(strikes_back in jaxvision/recipes.py); the option is of 2021-09-23: "
            + at("timm/loss/binary_cross_entropy.py", "train.py:193"),
        ),
        "evaluation size": Fact(224, PAPER),
        "evaluation crop": Fact(
            {"order": "resize, crop", "kept": 224 / int(224 / 0.95)},
            f"{PAPER}; {at('timm/data/transforms_factory.py:143-147')}",
        ),
        "evaluation filter": Fact("bicubic antialiased", at(f"timm/models/resnet.py:{lines}")),
    }


def seresnext50() -> Facts:
    """The documented command for ResNeXt-50, with the defaults of its time."""
    at, docs = SPRING.at, DOCS.at(COMMAND)
    per_epoch, epochs, total = 160_146 // 192, 240, 250
    rates = formulas.cosine_epochs(0.6, 1e-5, 1e-4, 5, epochs, total)
    return {
        "batch": Fact(8 * 192, docs),
        "replicas": Fact(8, docs),
        "image size": Fact(224, docs),
        "steps": Fact(total * per_epoch, f"{docs}; {at('train.py:126', 'timm/scheduler/scheduler_factory.py:38')}"),
        "stochastic depth": Fact([0.0] * BLOCKS, at("train.py:86-88")),
        "dropout": Fact(0.0, at("train.py:84")),
        "learning rate": Fact(
            sequence(by_epoch(rates, per_epoch), total * per_epoch, per_epoch, 5, total),
            f"{docs}; {at('train.py:114-126,479', 'timm/scheduler/scheduler_factory.py:22-38')}",
        ),
        "weight decay": Fact({"form": "coupled", "coefficient": 1e-4}, docs),
        "decayed parameters": Fact(
            formulas.decay_groups("seresnext50_32x4d", decays), at("timm/optim/optim_factory.py:11-23")
        ),
        "optimizer": Fact(
            {"rule": "sgd", "momentum": 0.9, "nesterov": True}, at("train.py:95-99", "timm/optim/optim_factory.py")
        ),
        "gradient clipping": Fact(0.0, at("train.py:95-101")),
        "ema": Fact("none", docs),
        "crop": Fact(CROP, at("timm/data/transforms.py")),
        "train filter": Fact("bilinear or bicubic at random, antialiased", at("train.py:153")),
        "repeated augmentation": Fact(1, docs),
        "policy": Fact([RANDAUGMENT_7], docs),
        "color jitter": Fact(0.0, at("timm/data/transforms_factory.py")),
        "flip": Fact(0.5, at("timm/data/transforms_factory.py:40")),
        "erased values": Fact("pixel", docs),
        "erasing": Fact(
            formulas.erasing(0.4, (0.02, 1 / 3), (0.3, 1 / 0.3), 3, 224),
            f"{docs}; {at('timm/data/random_erasing.py:38-49')}",
        ),
        "mixing": Fact("none", docs),
        "loss": Fact(formulas.losses(smoothed_cross_entropy(0.1)), at("train.py:151")),
        "evaluation size": Fact(224, docs),
        "evaluation crop": Fact(
            {"order": "resize, crop", "kept": 224 / int(224 / 0.875)}, at("timm/data/constants.py")
        ),
        "evaluation filter": Fact("bicubic antialiased", RELEASE.at("timm/models/resnet.py:181-183")),
    }


def facts(config: str, _variant: str) -> Facts:
    """Every fact of one variant."""
    if config == "seresnext50":
        return seresnext50()
    model, _, variant = config.partition("_")
    return strikes_back(model, variant)
