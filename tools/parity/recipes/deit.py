"""deit_s and deit3_s: facebookresearch/deit, main.py, README_deit.md and README_revenge.md, on timm 0.3.2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.parity.recipes import torch_formulas as formulas
from tools.parity.recipes.facts import Fact, Facts, Repository, average, by_epoch, number, sequence
from tools.parity.recipes.timm_train import ADAMW, CROP, RANDAUGMENT_9, smoothed_cross_entropy

REPOSITORY = Repository("facebookresearch/deit", "7e160fe43f0252d17191b71cbb5826254114ea5b")
TIMM = Repository("huggingface/pytorch-image-models", "6504a42832cb6687e3f595c37e003ea920268365")  # 0.3.2
RECIPES = {"deit_s": ("s", "ti", "b"), "deit3_s": ("s", "b"), "deit3_finetune": ("b", "l", "s384", "b384", "l384")}
MODELS = {"s": "deit_small_patch16_224", "ti": "deit_tiny_patch16_224", "b": "deit_base_patch16_224"}
# timm's name, image size, peak, stochastic depth, line of README_revenge.md
THIRD = {
    "s": ("deit3_small_patch16_224", 224, 4e-3, 0.05, 81),
    "b": ("deit3_base_patch16_224", 192, 3e-3, 0.2, 412),
}
# timm's name, image size, stochastic depth, blocks, line of README_revenge.md
TUNED = {
    "b": ("deit3_base_patch16_224", 224, 0.2, 12, 1411),
    "l": ("deit3_large_patch16_224", 224, 0.45, 24, 1432),
    "s384": ("deit3_small_patch16_384", 384, 0.0, 12, 1475),
    "b384": ("deit3_base_patch16_384", 384, 0.15, 12, 1495),
    "l384": ("deit3_large_patch16_384", 384, 0.4, 24, 1515),
}
DEPTH = 12
THREE_AUGMENT = "DeiT-III 3-Augment"


def decays(name: str, ndim: int, _norm: bool) -> bool:
    """timm's rule with ``no_weight_decay``."""
    return ndim > 1 and not name.endswith(".bias") and name not in ("pos_embed", "cls_token")


def rates(peak: float, epochs: int) -> list[float]:
    """``scheduler.step(epoch)`` follows the epoch, so that epochs 0 and 1 have the first rate."""
    found = formulas.cosine_epochs(peak, 1e-5, 1e-6, 5, epochs, epochs)
    return found[:1] + found[:-1]


def binary(logits: Any, labels: Any, partners: Any, lam: float) -> Any:
    """torch's BCE, in which every target above 0 is 1."""
    targets = formulas.timm_targets(labels, partners, lam, 0.0).gt(0.0).to(logits.dtype)
    return formulas.torch.nn.BCEWithLogitsLoss()(logits, targets)


def policies() -> dict[str, Fact]:
    """One of three operations, always."""
    third = number(1 / 3)
    value = {
        "choices": {
            "Grayscale": {"share": third},
            "Solarize": {"share": third, "threshold": 128},
            "GaussianBlur": {"share": third, "radius": [0.1, 2.0]},
        }
    }
    return {THREE_AUGMENT: Fact(value, REPOSITORY.at("augment.py:28-70,111-113"))}


def common(model: str, size: int, epochs: int, peak: float, decay: float, per_epoch: int) -> Facts:
    """What both generations share."""
    at = REPOSITORY.at
    total = epochs * per_epoch
    return {
        "image size": Fact(size, at("main.py:42")),
        "steps": Fact(total, at("main.py:216-245", "samplers.py:35")),
        "dropout": Fact(0.0, at("main.py:44")),
        "learning rate": Fact(
            sequence(by_epoch(rates(peak, epochs), per_epoch), total, per_epoch, 5, epochs),
            f"{at('main.py:69-90,355,432')}; {TIMM.at('timm/scheduler/cosine_lr.py:60-95')}",
        ),
        "weight decay": Fact({"form": "decoupled", "share at the peak": peak * decay}, at("main.py:66")),
        "decayed parameters": Fact(
            formulas.decay_groups(model, decays),
            TIMM.at("timm/optim/optim_factory.py", "timm/models/vision_transformer.py:255")
            + "; "
            + at("models_v2.py:229-231"),
        ),
        "ema": Fact(average(lambda _: 0.99996), at("main.py:49-52,334-341", "engine.py:71-72")),
        "crop": Fact(CROP, at("datasets.py:82-91", "augment.py:104-107")),
        "flip": Fact(formulas.timm_flip(), at("datasets.py:82-91", "augment.py:101,107")),
        "train filter": Fact("bicubic antialiased", at("main.py:102", "augment.py:96")),
        "repeated augmentation": Fact(3, at("main.py:105-107", "samplers.py:16")),
        "mixing": Fact(
            {"partner": "mirrored", "drawn per": "batch"} | formulas.timm_mixing(0.8, 1.0, size),
            at("main.py:128-139,254-260"),
        ),
        "evaluation size": Fact(size, at("datasets.py:99-106")),
        "evaluation filter": Fact("bicubic antialiased", at("datasets.py:103")),
    }


def first(variant: str) -> Facts:
    """DeiT."""
    at = REPOSITORY.at
    peak, per_epoch = 5e-4 * 1024 / 512.0, 1251
    return common(MODELS[variant], 224, 300, peak, 0.05, per_epoch) | {
        "batch": Fact(1024, at("README_deit.md:216-236")),
        "replicas": Fact(2 * 8 if variant == "b" else 4, at("README_deit.md:212-236")),
        "stochastic depth": Fact(
            formulas.linspace(0.1, DEPTH), f"{TIMM.at('timm/models/vision_transformer.py:226')}; {at('main.py:46')}"
        ),
        "optimizer": Fact(ADAMW, at("main.py:56-61")),
        "gradient clipping": Fact(0.0, at("main.py:62")),
        "policy": Fact([RANDAUGMENT_9], at("main.py:98")),
        "color jitter": Fact(0.0, at("main.py:96-98", "datasets.py:82-91")),
        "erasing": Fact(formulas.erasing(0.25, (0.02, 1 / 3), (0.3, 1 / 0.3), 1, 224), at("main.py:118-122")),
        "erased values": Fact("pixel", at("main.py:120")),
        "loss": Fact(formulas.losses(smoothed_cross_entropy(0.1)), at("main.py:101,359-361")),
        "evaluation crop": Fact(
            {"order": "resize, crop", "kept": 224 / int(224 / 0.875)}, at("datasets.py:101", "main.py:174")
        ),
    }


def third(variant: str) -> Facts:
    """DeiT-III: the 800 epochs before fine-tuning."""
    model, size, peak, depth, line = THIRD[variant]

    def at(*places: str) -> str:
        return REPOSITORY.at(*places, f"README_revenge.md:{line}")

    return common(model, size, 800, peak, 0.05, 625) | {
        "batch": Fact(8 * 256, at()),
        "replicas": Fact(8, at()),
        "stochastic depth": Fact([depth] * DEPTH, at("models_v2.py:200")),
        "optimizer": Fact(ADAMW | {"rule": "lamb"}, at("main.py:56-61")),
        "gradient clipping": Fact(1.0, "apex FusedLAMB's default max_grad_norm; " + at()),
        "policy": Fact([THREE_AUGMENT], at("augment.py:111-113")),
        "color jitter": Fact(0.3, at("augment.py:115-116")),
        "erasing": Fact("none", at()),
        "loss": Fact(formulas.losses(binary), at("engine.py:43-44", "main.py:367-368")),
        "evaluation crop": Fact({"order": "resize, crop", "kept": size / int(size / 1.0)}, at("datasets.py:101")),
    }


def tuned(variant: str) -> Facts:
    """DeiT-III: 20 epochs from trained weights."""
    model, size, depth, blocks, line = TUNED[variant]

    def at(*places: str) -> str:
        return REPOSITORY.at(*places, f"README_revenge.md:{line}")

    # A GPU's share of 1,281,167 images, rounded up, in batches of 64, 32 or 16; the last one is dropped.
    return common(model, size, 20, 1e-5, 0.1, 2502) | {
        "batch": Fact(512, at()),
        "replicas": Fact({"b384": 2, "l384": 4}.get(variant, 1) * 8, at()),
        "stochastic depth": Fact([depth] * blocks, at("models_v2.py:200")),
        "optimizer": Fact(ADAMW, at("main.py:56-61")),
        "gradient clipping": Fact(0.0, at("main.py:62")),
        "repeated augmentation": Fact(1, at()),
        "policy": Fact([RANDAUGMENT_9], at()),
        "color jitter": Fact(0.0, at("datasets.py:82-91")),
        "erasing": Fact("none", at()),
        "loss": Fact(formulas.losses(smoothed_cross_entropy(0.1)), at("main.py:359-361")),
        "evaluation crop": Fact({"order": "resize, crop", "kept": size / int(size / 1.0)}, at("datasets.py:101")),
    }


def facts(config: str, variant: str) -> Facts:
    """Every fact of one variant."""
    make: dict[str, Callable[[str], Facts]] = {"deit_s": first, "deit3_s": third, "deit3_finetune": tuned}
    return make[config](variant)
