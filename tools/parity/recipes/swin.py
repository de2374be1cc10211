"""swin_t: microsoft/Swin-Transformer, config.py and configs/swin."""

from __future__ import annotations

import functools

import numpy as np

from tools.parity.recipes import torch_formulas as formulas
from tools.parity.recipes.facts import Fact, Facts, Repository, sequence
from tools.parity.recipes.timm_train import ADAMW, CROP, RANDAUGMENT_9, smoothed_cross_entropy

REPOSITORY = Repository("microsoft/Swin-Transformer", "f82860bfb5225915aca09c3227159ee9e1df874d")
RECIPES = {"swin_t": ("t", "s", "b")}
# timm's name, depths, stochastic depth, yaml
MODELS = {
    "t": ("swin_tiny_patch4_window7_224", (2, 2, 6, 2), 0.2, "tiny"),
    "s": ("swin_small_patch4_window7_224", (2, 2, 18, 2), 0.3, "small"),
    "b": ("swin_base_patch4_window7_224", (2, 2, 18, 2), 0.5, "base"),
}
BATCH, WORKERS, EPOCHS, WARMUP = 128, 8, 300, 20
SCALE = BATCH * WORKERS / 512.0
PEAK, START, END = 5e-4 * SCALE, 5e-7 * SCALE, 5e-6 * SCALE
PER_EPOCH = 160_146 // BATCH  # a worker's share of 1,281,167 images, rounded up; the last batch is dropped


@functools.cache
def rates() -> np.ndarray:
    """timm's scheduler as main.py calls it: after each update, so that the first two have the rate of update 0."""
    from timm.scheduler.cosine_lr import CosineLRScheduler

    total, warmup = EPOCHS * PER_EPOCH, WARMUP * PER_EPOCH
    make = functools.partial(
        CosineLRScheduler, t_initial=total - warmup, lr_min=END, warmup_lr_init=START, warmup_t=warmup, cycle_limit=1,
        t_in_epochs=False, warmup_prefix=True,
    )  # fmt: skip
    scheduler = formulas.timm_scheduler(make, PEAK)
    return np.array([scheduler._get_lr(max(update - 1, 0))[0] for update in range(total)])


def decays(name: str, ndim: int, _norm: bool) -> bool:
    """optimizer.py's rule."""
    return ndim > 1 and not name.endswith(".bias") and "relative_position_bias_table" not in name


def facts(_config: str, variant: str) -> Facts:
    """Every fact of one variant."""
    model, depths, depth, size = MODELS[variant]
    yaml = f"configs/swin/swin_{size}_patch4_window7_224.yaml"
    at = REPOSITORY.at
    return {
        "batch": Fact(BATCH * WORKERS, at("config.py:26", "get_started.md:174-194")),
        "replicas": Fact(8 * (2 if variant == "b" else 1), at("get_started.md:174-194") + "; B: accumulated steps"),
        "image size": Fact(224, at("config.py:32")),
        "steps": Fact(EPOCHS * PER_EPOCH, at("lr_scheduler.py:17", "data/build.py:60-75")),
        "stochastic depth": Fact(formulas.linspace(depth, sum(depths)), at("models/swin_transformer.py:544,558", yaml)),
        "dropout": Fact(0.0, at("config.py:66")),
        "learning rate": Fact(
            sequence(lambda steps: rates()[steps], EPOCHS * PER_EPOCH, PER_EPOCH, WARMUP, EPOCHS),
            at("lr_scheduler.py:23-34", "main.py:205,326-338", "config.py:153-178"),
        ),
        "weight decay": Fact(
            {"form": "decoupled", "share at the peak": PEAK * 0.05}, at("config.py:155", "optimizer.py:46-48")
        ),
        "decayed parameters": Fact(
            formulas.decay_groups(model, decays), at("optimizer.py:59-73", "models/swin_transformer.py:580-586")
        ),
        "optimizer": Fact(ADAMW, at("config.py:184-191", "optimizer.py:46-48")),
        "gradient clipping": Fact(5.0, at("config.py:160")),
        "ema": Fact("none", at("main.py:80-170")),
        "crop": Fact(CROP, at("data/build.py:129-138")),
        "train filter": Fact("bicubic antialiased", at("config.py:34")),
        "repeated augmentation": Fact(1, at("data/build.py:52-58")),
        "policy": Fact([RANDAUGMENT_9], at("config.py:207")),
        "color jitter": Fact(0.0, at("config.py:205", "data/build.py:132-133")),
        "flip": Fact(formulas.timm_flip(), at("data/build.py:129-138")),
        "erasing": Fact(formulas.erasing(0.25, (0.02, 1 / 3), (0.3, 1 / 0.3), 1, 224), at("config.py:208-213")),
        "erased values": Fact("pixel", at("config.py:211")),
        "mixing": Fact(
            {"partner": "mirrored", "drawn per": "batch"} | formulas.timm_mixing(0.8, 1.0, 224), at("config.py:214-225")
        ),
        "loss": Fact(formulas.losses(smoothed_cross_entropy(0.1)), at("config.py:70", "main.py:115-120")),
        "evaluation size": Fact(224, at("config.py:32")),
        "evaluation crop": Fact(
            {"order": "resize, crop", "kept": 224 / int((256 / 224) * 224)}, at("data/build.py:147-153")
        ),
        "evaluation filter": Fact("bicubic antialiased", at("data/build.py:150", "config.py:34")),
    }
