"""resnet_rs50 and efficientnet_b0: tensorflow/tpu, models/official/resnet and models/official/efficientnet.

ResNet-RS's schedule and scope of decay are of tensorflow/models: the code in tensorflow/tpu has only steps where the
paper has a cosine.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tools.parity.recipes import efficientnet_blocks
from tools.parity.recipes import torch_formulas as formulas
from tools.parity.recipes.facts import Fact, Facts, Repository, average, sequence

REPOSITORY = Repository("tensorflow/tpu", "7dc921f846c9e4071f3884b768a7ddf521272a49")
RELEASE = Repository("tensorflow/tpu", "acb331c8878ce5a4124d4d7687df5fe0fadcd43b")  # before 22d5cab, 2021-11-18
GARDEN = Repository("tensorflow/models", "0de1746a258cd503bfc2f4a965518948c3aa59dd")
GARDEN_RESNET = Repository("tensorflow/models", "00936d3553912cfc53691f6ec60303aae1777b5d")
GARDEN_SCHEDULE = Repository("tensorflow/models", "00b830c7ca641413f37e5147cf059c89f79b0e8e")
YAML = "official/vision/configs/experiments/image_classification/imagenet_resnetrs50_i160.yaml"

CROP = "tensorflow, area 0.08-1, ratio 3/4-4/3, covered 0.1, 10 attempts"
V0 = "tensorflow AutoAugment v0"
# image size, blocks, dropout, stochastic depth, magnitude
RS = {
    "50": (160, (3, 4, 6, 3), 0.25, 0.0, 10),
    "101": (192, (3, 4, 23, 3), 0.25, 0.0, 15),
    "152": (256, (3, 8, 36, 3), 0.25, 0.0, 15),
    "200": (256, (3, 24, 36, 3), 0.25, 0.1, 15),
    "270": (256, (4, 29, 53, 4), 0.25, 0.1, 15),
    "350": (320, (4, 36, 72, 4), 0.4, 0.1, 15),
    "420": (320, (4, 44, 87, 4), 0.4, 0.1, 15),
}
# width, depth, image size, dropout
B = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
}
RECIPES = {"resnet_rs50": tuple(RS), "efficientnet_b0": tuple(B)}
RMSPROP = {"rule": "rmsprop_tf", "rho": 0.9, "momentum": 0.9, "eps": 1e-3}
RESNET, EFFICIENTNET = "models/official/resnet/", "models/official/efficientnet/"


def smoothed(logits: Any, labels: Any, _partners: Any, _lam: float) -> Any:
    """TensorFlow's softmax cross-entropy with smoothing 0.1: targets times 0.9 plus 0.1 over the classes."""
    torch = formulas.torch
    targets = torch.nn.functional.one_hot(labels, logits.shape[-1]) * 0.9 + 0.1 / logits.shape[-1]
    return -(targets * torch.log_softmax(logits, -1)).sum(-1).mean()


def one_label_loss() -> dict[str, float]:
    """For recipes that do not mix."""
    return {"one label": formulas.losses(smoothed)["one label"]}


@functools.cache
def ema() -> dict[str, Any]:
    """TensorFlow's warm-up of the decay: the first updates run, the others by the formula they agree with."""
    from tools.parity.recipes import tensorflow_formulas

    def decay(update: int) -> float:
        return min(0.9999, (2 + update) / (11 + update))

    run = tensorflow_formulas.ema_decays(0.9999, 12)
    np.testing.assert_allclose(run, [decay(update) for update in range(12)], rtol=1e-6)
    return average(decay)


def staircase(steps: np.ndarray, peak: float, per_epoch: float) -> np.ndarray:
    """0.97 every 2.4 epochs, under five epochs of warm-up."""
    stairs = peak * 0.97 ** np.floor(steps / (per_epoch * 2.4))
    warmup = int(5 * per_epoch)
    return np.where(steps < warmup, peak * steps / warmup, stairs)


def garden_cosine(steps: np.ndarray) -> np.ndarray:
    """A cosine over the whole run; the warm-up leads to its value at the end of the warm-up."""
    cosine = 1.6 * 0.5 * (1 + np.cos(np.pi * steps / 109_200))
    end = 1.6 * 0.5 * (1 + np.cos(np.pi * 1560 / 109_200))
    return np.where(steps < 1560, end * steps / 1560, cosine)


def crops() -> dict[str, Fact]:
    """The distributions of crops, by name."""
    from tools.parity.recipes import tensorflow_formulas

    statistics = tensorflow_formulas.crops((0.08, 1.0), (3 / 4, 4 / 3), 0.1, 10, box=True)
    return {CROP: Fact(statistics, REPOSITORY.at(f"{EFFICIENTNET}preprocessing.py:96-106"))}


def policies() -> dict[str, Fact]:
    """The policies, by name."""
    from tools.parity.recipes import tensorflow_formulas

    where = REPOSITORY.at(f"{EFFICIENTNET}autoaugment.py:36-67,477-532,644-672")
    layers = REPOSITORY.at(f"{EFFICIENTNET}autoaugment.py:477-532,675-718")
    return {
        V0: Fact(tensorflow_formulas.autoaugment_v0(), where),
        "tensorflow RandAugment 10": Fact(tensorflow_formulas.randaugment(10.0), layers),
        "tensorflow RandAugment 15": Fact(tensorflow_formulas.randaugment(15.0), layers),
    }


def resnet_rs(variant: str) -> Facts:
    """One of the ResNet-RS."""
    size, blocks, dropout, rate, magnitude = RS[variant]
    yaml = f"{RESNET}resnet_rs/configs/resnetrs{variant}_i{size}.yaml"

    def at(*places: str) -> str:
        return REPOSITORY.at(*(f"{RESNET}{place}" for place in places), yaml)

    depth = [rate * stage / 5 for stage, count in enumerate(blocks, 2) for _ in range(count)]
    padding = round(size * (1 / 0.875 - 1))
    garden = GARDEN.at(YAML)
    return {
        "batch": Fact(4096, at()),
        "replicas": Fact(None, at() + "; the number of TPU cores is not published"),
        "image size": Fact(size, at()),
        "steps": Fact(109_475, at()),
        "stochastic depth": Fact(depth, at("resnet_layers.py:20-25", "resnet_model.py:768-794")),
        "dropout": Fact(dropout, at()),
        "learning rate": Fact(
            sequence(garden_cosine, 109_200, 312, 5, 350),
            f"{garden}; {GARDEN_SCHEDULE.at('official/modeling/optimization/lr_schedule.py:82-146')}",
        ),
        "weight decay": Fact({"form": "coupled", "coefficient": 4e-5}, at("resnet_main.py:474-478")),
        "decayed parameters": Fact(
            formulas.decay_groups(f"resnetrs{variant}", lambda name, ndim, norm: ndim > 1),
            GARDEN_RESNET.at("official/vision/modeling/backbones/resnet.py"),
        ),
        "optimizer": Fact({"rule": "sgd", "momentum": 0.9, "nesterov": True}, at("resnet_main.py:500-503")),
        "gradient clipping": Fact(0.0, at("resnet_main.py:500-514")),
        "ema": Fact(ema(), at("resnet_main.py:481-484,516-518")),
        "crop": Fact(CROP, at("resnet_preprocessing.py:88-108")),
        "train filter": Fact("bicubic, legacy coordinates", at("resnet_preprocessing.py:105-106")),
        "repeated augmentation": Fact(1, at()),
        "policy": Fact([f"tensorflow RandAugment {magnitude}"], at("resnet_preprocessing.py:182-188")),
        "color jitter": Fact(0.0, at("resnet_preprocessing.py:162-191")),
        "flip": Fact(0.5, at("resnet_preprocessing.py:134-136,163")),
        "erasing": Fact("none", at("resnet_preprocessing.py:162-191")),
        "mixing": Fact("none", at()),
        "loss": Fact(one_label_loss(), at("resnet_main.py:464-468")),
        "evaluation size": Fact(size, at()),
        "evaluation crop": Fact(
            {"order": "crop, resize", "kept": size / (size + padding)},
            f"{at('resnet_preprocessing.py:117-121')}; until 22d5cab (2021-11-18) size / (size + 32): "
            f"{RELEASE.at(f'{RESNET}resnet_preprocessing.py:24,116')}",
        ),
        "evaluation filter": Fact("bicubic, legacy coordinates", at("resnet_preprocessing.py:129")),
    }


def efficientnet(variant: str) -> Facts:
    """One of the EfficientNets, with AutoAugment."""
    width, depth, size, dropout = B[variant]
    images, batch, total = 1_281_167, 2048, 218_949
    per_epoch = images / batch

    def at(*places: str) -> str:
        return REPOSITORY.at(*(EFFICIENTNET + place for place in places))

    rates = efficientnet_blocks.depth(efficientnet_blocks.V1, width, depth, 0.2, True)
    return {
        "batch": Fact(batch, at("main.py:128")),
        "replicas": Fact(None, at("main.py:128") + "; the number of TPU cores is not published"),
        "image size": Fact(size, at("efficientnet_builder.py:35-50")),
        "steps": Fact(total, at("main.py:118")),
        "stochastic depth": Fact(rates, at("efficientnet_model.py:387-394,656-662", "efficientnet_builder.py:172-183")),
        "dropout": Fact(dropout, at("efficientnet_builder.py:35-50")),
        "learning rate": Fact(
            sequence(lambda steps: staircase(steps, 0.128, per_epoch), total, per_epoch, 5, total / per_epoch),
            at("utils.py:36-80", "main.py:235-240,295,437-447"),
        ),
        "weight decay": Fact({"form": "coupled", "coefficient": 1e-5}, at("main.py:246,420-422")),
        "decayed parameters": Fact(
            formulas.decay_groups(f"tf_efficientnet_{variant}", lambda name, ndim, norm: not norm),
            at("main.py:420-422"),
        ),
        "optimizer": Fact(RMSPROP, at("utils.py:83-101")),
        "gradient clipping": Fact(0.0, at("main.py:449-463")),
        "ema": Fact(ema(), at("main.py:242,425-428,465-467")),
        "crop": Fact(CROP, at("preprocessing.py:96-115")),
        "train filter": Fact("bicubic, legacy coordinates", at("preprocessing.py:88-93")),
        "repeated augmentation": Fact(1, at("imagenet_input.py")),
        "policy": Fact([V0], at("README.md:74", "preprocessing.py:189-191")),
        "color jitter": Fact(0.0, at("preprocessing.py:173-203")),
        "flip": Fact(0.5, at("preprocessing.py:142")),
        "erasing": Fact("none", at("preprocessing.py:173-203")),
        "mixing": Fact("none", at("main.py:262-264")),
        "loss": Fact(one_label_loss(), at("main.py:250,412-417")),
        "evaluation size": Fact(size, at("efficientnet_builder.py:35-50")),
        "evaluation crop": Fact(
            {"order": "crop, resize", "kept": size / (size + 32)},
            RELEASE.at(f"{EFFICIENTNET}preprocessing.py:26,117-135"),
        ),
        "evaluation filter": Fact("bicubic, legacy coordinates", at("preprocessing.py:136")),
    }


def facts(config: str, variant: str) -> Facts:
    """Every fact of one variant."""
    return resnet_rs(variant) if config == "resnet_rs50" else efficientnet(variant)
