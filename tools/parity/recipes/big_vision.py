"""vit_s16: google-research/big_vision, configs/vit_s16_i1k.py."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tools.parity.recipes import draws
from tools.parity.recipes import torch_formulas as formulas
from tools.parity.recipes.facts import Fact, Facts, Repository, sequence

REPOSITORY = Repository("google-research/big_vision", "0127fb6b337ee2a27bf4e54dea79cff176527356")
CONFIG = "big_vision/configs/vit_s16_i1k.py"
RECIPES = {"vit_s16": ("90", "300")}
IMAGES, BATCH, RATE, DECAY, WARMUP = 1_268_355, 1024, 1e-3, 1e-4, 10_000  # train[:99%]
CROP = "tensorflow, area 0.05-1, ratio 0.75-1.33, 100 attempts"
POLICY = "tensorflow RandAugment 10"
# Names of Flax's parameters (big_vision/models/vit.py:60-110, 207-270) and of the same tensors in timm's manner; query,
# key and value are one tensor there.
NAMES = {
    "embedding/{}": "patch_embed.proj.{}",
    "Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/{}": "blocks.*.attn.qkv.{}",
    "Transformer/encoderblock_0/MultiHeadDotProductAttention_0/out/{}": "blocks.*.attn.proj.{}",
    "Transformer/encoderblock_0/MlpBlock_0/Dense_0/{}": "blocks.*.mlp.fc1.{}",
    "Transformer/encoderblock_0/MlpBlock_0/Dense_1/{}": "blocks.*.mlp.fc2.{}",
    "pre_logits/{}": "pre_logits.fc.{}",
    "head/{}": "head.{}",
}
NORMS = {
    "Transformer/encoderblock_0/LayerNorm_0/{}": "blocks.*.norm1.{}",
    "Transformer/encoderblock_0/LayerNorm_1/{}": "blocks.*.norm2.{}",
    "Transformer/encoder_norm/{}": "norm.{}",
}


def schedule(steps: np.ndarray, total: int) -> np.ndarray:
    """Share of the peak: a cosine from the end of the warm-up, times the warm-up."""
    progress = np.clip((steps - WARMUP) / (total - WARMUP), 0, 1)
    return 0.5 * (1 + np.cos(np.pi * progress)) * np.minimum(1, steps / WARMUP)


def decayed() -> dict[str, float]:
    """The default pattern of weight decay on Flax's names, by timm's manner of names."""
    found = {}
    for names, weight in ((NAMES, "kernel"), (NORMS, "scale")):
        for flax, ours in names.items():
            for theirs, kind in ((weight, "weight"), ("bias", "bias")):
                rank = 1 if theirs != "kernel" else 4 if flax.startswith("embedding") else 2
                name = flax.format(theirs)
                found[f"{ours.format(kind)}:{rank}d"] = float(re.fullmatch(r".*/kernel$", name) is not None)
    return dict(sorted(found.items()))


def mixing() -> dict[str, Any]:
    """One lambda, folded to its larger side, and the previous image."""
    drawn = np.random.RandomState(0).beta(0.2, 0.2, draws.DRAWS)
    folded = np.maximum(drawn, 1 - drawn)
    return {"partner": "previous", "drawn per": "batch"} | draws.mixing_statistics(folded, np.empty(0))


def loss(logits: Any, labels: Any, partners: Any, lam: float) -> Any:
    """Softmax cross-entropy with mixed labels, without smoothing."""
    targets = formulas.timm_targets(labels, partners, lam, 0.0)
    return -(targets * formulas.torch.log_softmax(logits, -1)).sum(-1).mean()


def crops() -> dict[str, Fact]:
    """The distributions of crops, by name."""
    from tools.parity.recipes import tensorflow_formulas

    statistics = tensorflow_formulas.crops((0.05, 1.0), (0.75, 1.33), 0.0, 100, box=False)
    return {CROP: Fact(statistics, REPOSITORY.at("big_vision/pp/ops_image.py:199-229"))}


def policies() -> dict[str, Fact]:
    """The policies, by name."""
    from tools.parity.recipes import tensorflow_formulas

    where = REPOSITORY.at("big_vision/pp/autoaugment.py:429-512,659-703", f"{CONFIG}:57")
    return {POLICY: Fact(tensorflow_formulas.randaugment(10.0), where)}


def facts(_config: str, variant: str) -> Facts:
    """Every fact of one variant."""
    epochs = float(variant)
    per_epoch = IMAGES / BATCH
    total = round(epochs * per_epoch)

    def at(*lines: str, config: str = "") -> str:
        return REPOSITORY.at(*lines, *([f"{CONFIG}:{config}"] if config else []))

    return {
        "batch": Fact(BATCH, at(config="47")),
        "replicas": Fact(8, at(config="18")),
        "image size": Fact(224, at(config="57")),
        "steps": Fact(total, at("big_vision/utils.py:1043-1053", config="38,45,47")),
        "stochastic depth": Fact([0.0] * 12, at("big_vision/models/vit.py:80-110")),
        "dropout": Fact(0.0, at("big_vision/models/vit.py:197")),
        "learning rate": Fact(
            sequence(lambda steps: RATE * schedule(steps, total), total, per_epoch, WARMUP / per_epoch, epochs),
            at("big_vision/utils.py:1102-1141", config="82-84"),
        ),
        "weight decay": Fact(
            {"form": "decoupled", "share at the peak": DECAY}, at("big_vision/optax.py:129-149", config="83")
        ),
        "decayed parameters": Fact(decayed(), at("big_vision/optax.py:133")),
        "optimizer": Fact(
            {"rule": "adamw", "b1": 0.9, "b2": 0.999, "eps": 1e-8, "first moment": "bfloat16"},
            at("big_vision/optax.py:110-111", config="79-80") + "; optax scale_by_adam",
        ),
        "gradient clipping": Fact(1.0, at("big_vision/optax.py:100-105", config="78")),
        "ema": Fact("none", at(config="33-86")),
        "crop": Fact(CROP, at("big_vision/pp/ops_image.py:199-229", config="57")),
        "train filter": Fact("bilinear", at("big_vision/pp/ops_image.py:58-85,201")),
        "repeated augmentation": Fact(1, at(config="42-58")),
        "policy": Fact([POLICY], at(config="57")),
        "color jitter": Fact(0.0, at(config="57")),
        "flip": Fact(0.5, at("big_vision/pp/ops_image.py:295-303", config="57")),
        "erasing": Fact("none", at(config="57")),
        "mixing": Fact(mixing(), at("big_vision/utils.py:1146-1154", config="86")),
        "loss": Fact(formulas.losses(loss), at("big_vision/utils.py:276-281", config="40")),
        "evaluation size": Fact(224, at(config="60")),
        "evaluation crop": Fact(
            {"order": "resize, crop", "kept": 224 / 256}, at("big_vision/pp/ops_image.py:106-131", config="60")
        ),
        "evaluation filter": Fact("area", at("big_vision/pp/ops_image.py:108")),
    }
