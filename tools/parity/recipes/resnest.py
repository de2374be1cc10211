"""resnest50: zhanghang1989/ResNeSt, scripts/gluon/train.py, on MXNet 1.6."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tools.parity.recipes import draws
from tools.parity.recipes import torch_formulas as formulas
from tools.parity.recipes.facts import Fact, Facts, Repository, sequence
from tools.parity.recipes.timm_train import CROP, smoothed_cross_entropy

REPOSITORY = Repository("zhanghang1989/ResNeSt", "1dfb3e8867e2ece1c28a65c9db1cded2818a2031")
MXNET = Repository("apache/mxnet", "6eec9da55c5096079355d1f1a5fa58dcf35d6752")  # 1.6.0
TRAIN, TRANSFORMS, COMMAND = "scripts/gluon/train.py", "resnest/gluon/transforms.py", "scripts/gluon/README.md:32-40"
# timm's name, image size, batch, dropout, blocks
MODELS = {
    "50": ("resnest50d", 224, 8192, 0.0, (3, 4, 6, 3)),
    "101": ("resnest101e", 256, 4096, 0.0, (3, 4, 23, 3)),
    "200": ("resnest200e", 320, 2048, 0.2, (3, 24, 36, 3)),
    "269": ("resnest269e", 416, 2048, 0.2, (3, 30, 48, 8)),
}
RECIPES = {"resnest50": tuple(MODELS)}
LARGE_CROP = "ResNeSt's EfficientNet crop"
POLICY = "ResNeSt AutoAugment"
EPOCHS = 270
# Sub-policies: operation, tenths of probability and level (transforms.py:266-292).
ROWS = (
    "Posterize2 4 8 Rotate 6 9", "Solarize 6 5 AutoContrast 6 5", "Equalize 8 8 Equalize 6 3",
    "Posterize2 6 7 Posterize2 6 6", "Equalize 4 7 Solarize 2 4", "Equalize 4 4 Rotate 8 8",
    "Solarize 6 3 Equalize 6 7", "Posterize2 8 5 Equalize 10 2", "Rotate 2 3 Solarize 6 8",
    "Equalize 6 8 Posterize2 4 6", "Rotate 8 8 Color 4 0", "Rotate 4 9 Equalize 6 2", "Equalize 0 7 Equalize 8 8",
    "Invert 6 4 Equalize 10 8", "Color 6 4 Contrast 10 8", "Rotate 8 8 Color 10 0", "Color 8 8 Solarize 8 7",
    "Sharpness 4 7 Invert 6 8", "ShearX 6 5 Equalize 10 9", "Color 4 0 Equalize 6 3", "Equalize 4 7 Solarize 2 4",
    "Solarize 6 5 AutoContrast 6 5", "Invert 6 4 Equalize 10 8", "Color 6 4 Contrast 10 8", "Equalize 8 8 Equalize 6 3",
)  # fmt: skip


def schedule(steps: np.ndarray, peak: float, epoch_size: int) -> np.ndarray:
    """MXNet's cosine after a warm-up from 0; an optimizer's first update has number 1."""
    update, warmup, total = steps + 1, 5 * epoch_size, EPOCHS * epoch_size
    cosine = peak * (1 + np.cos(np.pi * (update - warmup) / (total - warmup))) / 2
    return np.where(update < warmup, peak * update / warmup, cosine)


def large_crop(height: int, width: int, rng: np.random.RandomState) -> tuple[int, int, int, int]:
    """``ERandomCrop``: the height is uniform in what the area allows; the whole image after ten failures.

    Where the source falls back to a crop of the centre, the whole image is returned.
    """
    area = height * width
    for _ in range(10):
        aspect = rng.uniform(3 / 4, 4 / 3)
        low, high = round(math.sqrt(0.1 * area / aspect)), round(math.sqrt(area / aspect))
        if high * aspect > width:
            high = int((width + 0.5 - 1e-7) / aspect)
            high -= high * aspect > width
        high = min(high, height)
        h = round(rng.uniform(min(low, high), high))
        w = round(h * aspect)
        if 0.1 * area <= h * w <= area and w <= width and h <= height:
            if (h, w) == (height, width):
                break
            left, top = rng.randint(0, width - w + 1), rng.randint(0, height - h + 1)
            return top, left, h, w
    return 0, 0, height, width


def operation(name: str, level: int) -> dict[str, Any]:
    """An operation's argument after the source's two mappings (transforms.py:225-259, 299-301)."""
    share = level / 10
    if name == "Rotate":
        return {"plus or minus": float(int(share * 30))}
    if name == "ShearX":
        return {"plus or minus": share * 0.3}
    if name == "Solarize":
        return {"threshold": 256 - int(share * 256)}
    if name == "Posterize2":
        return {"bits": 4 - int(share * 4)}
    if name in ("Contrast", "Color", "Sharpness"):
        return {"factor": share * 1.8 + 0.1}
    return {}


def policies() -> dict[str, Fact]:
    """The policies, by name."""
    sub_policies = []
    for row in ROWS:
        words = row.split()
        sub_policies.append(
            [
                {"operation": name.rstrip("2"), "probability": int(tenths) / 10} | operation(name, int(level))
                for name, tenths, level in (words[:3], words[3:])
            ]
        )
    value = {"fill": [0, 0, 0], "rotation": "nearest", "sub-policies": sub_policies}
    return {POLICY: Fact(value, REPOSITORY.at(f"{TRANSFORMS}:16-125,225-301", "resnest/gluon/data_utils.py:55-63"))}


def crops() -> dict[str, Fact]:
    """The distributions of crops, by name."""
    found = {}
    for height, width in draws.SOURCE_SIZES:
        rng = np.random.RandomState(0)
        boxes = np.array([large_crop(height, width, rng) for _ in range(draws.DRAWS)])
        found[f"{height}x{width}"] = draws.crop_statistics(boxes, height, width)
    return {LARGE_CROP: Fact(found, REPOSITORY.at(f"{TRANSFORMS}:328-383", f"{TRAIN}:202-211"))}


def drop_block(blocks: tuple[int, ...], size: int) -> dict[str, Any]:
    """DropBlock's rates over the epochs, and its masks on a map of the third stage.

    A mask for each channel, shared by the batch; three in each bottleneck of the last two stages.
    """
    side = math.ceil(size / 16)
    rate, block = 0.1, 3
    gamma = rate * side * side / block**2 / (side - block + 1) ** 2
    inner = (1 - gamma) ** (block * block)
    return {
        "rates by epoch": [0.1 * (epoch + 1) / EPOCHS for epoch in (0, 1, 134, 269)],
        "block": [block, block],
        "masks": "one per channel, shared by the batch",
        "places": 3 * (blocks[2] + blocks[3]),
        "kept inside": inner,
    }


def facts(_config: str, variant: str) -> Facts:
    """Every fact of one variant."""
    model, size, batch, dropout, blocks = MODELS[variant]
    workers = batch // 128
    epoch_size = math.ceil(1_281_167 // workers / 128)
    steps = EPOCHS * (1_281_167 // workers // 128)
    peak = 0.05 * workers
    at, large = REPOSITORY.at, size >= 320
    evaluation = (
        {"order": "crop, resize", "kept": size / (size + 32)}
        if large
        else {"order": "resize, crop", "kept": size / math.ceil(size / 0.875)}
    )
    names = "resnest/gluon/resnest.py:16-58"
    mixup = np.random.RandomState(0).beta(0.2, 0.2, draws.DRAWS)
    mixing = {"partner": "mirrored", "drawn per": "batch"} | draws.mixing_statistics(mixup, np.empty(0))
    return {
        "batch": Fact(batch, at(COMMAND) if variant == "50" else "arXiv:2004.08955 section 5.1"),
        "replicas": Fact(64 if variant == "50" else None, at(COMMAND)),
        "image size": Fact(size, at("README.md:46-49")),
        "steps": Fact(steps, at(f"{TRAIN}:183-184,228-230")),
        "stochastic depth": Fact([0.0] * sum(blocks), at("resnest/gluon/resnet.py:85-126")),
        "dropout": Fact(dropout, at(names)),
        "learning rate": Fact(
            sequence(lambda step: schedule(step, peak, epoch_size), steps, epoch_size, 5, steps / epoch_size),
            f"{at(f'{TRAIN}:142-151', COMMAND)}; {MXNET.at('python/mxnet/lr_scheduler.py:57-64,275-281')}",
        ),
        "weight decay": Fact({"form": "coupled", "coefficient": 1e-4}, at(f"{TRAIN}:75,356")),
        "decayed parameters": Fact(
            formulas.decay_groups(model, lambda name, ndim, norm: not norm and not name.endswith(".bias")),
            at(f"{TRAIN}:345-347", COMMAND),
        ),
        "optimizer": Fact({"rule": "sgd", "momentum": 0.9, "nesterov": True}, at(f"{TRAIN}:73,355-361")),
        "gradient clipping": Fact(0.0, at(f"{TRAIN}:355-364")),
        "ema": Fact("none", at(TRAIN)),
        "crop": Fact(
            LARGE_CROP if large else CROP,
            f"{at(f'{TRAIN}:202-221', f'{TRANSFORMS}:328-383')}; {MXNET.at('python/mxnet/image/image.py:560-612')}",
        ),
        "train filter": Fact(
            "bicubic antialiased" if large else "bilinear",
            f"{at(f'{TRAIN}:205,214')}; {MXNET.at('python/mxnet/gluon/data/vision/transforms.py:227-235')}",
        ),
        "repeated augmentation": Fact(1, at(f"{TRAIN}:226")),
        "policy": Fact([POLICY], at(f"{TRAIN}:197-200", COMMAND)),
        "color jitter": Fact(0.4, at(f"{TRAIN}:207,216")),
        "lighting": Fact(0.1, at(f"{TRAIN}:193,208,218")),
        "flip": Fact(0.5, at(f"{TRAIN}:206,215")),
        "erasing": Fact("none", at(f"{TRAIN}:202-221")),
        "mixing": Fact(mixing, at(f"{TRAIN}:380-419", COMMAND)),
        "drop block": Fact(
            drop_block(blocks, size), at("resnest/gluon/dropblock.py:14-72", "resnest/gluon/resnet.py:49-122")
        ),
        "loss": Fact(formulas.losses(smoothed_cross_entropy(0.1)), at(f"{TRAIN}:369-388")),
        "evaluation size": Fact(size, at(COMMAND)),
        "evaluation crop": Fact(evaluation, at(f"{TRAIN}:242-260", f"{TRANSFORMS}:399-409")),
        "evaluation filter": Fact("bicubic antialiased" if large else "bilinear", at(f"{TRAIN}:245-260")),
    }
