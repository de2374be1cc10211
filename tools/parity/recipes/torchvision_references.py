"""resnet50_tv2: pytorch/vision, references/classification, with the command of issue 3995 and PR 5084."""

from __future__ import annotations

from typing import Any

import numpy as np

from tools.parity.recipes import draws
from tools.parity.recipes import torch_formulas as formulas
from tools.parity.recipes.facts import Fact, Facts, Repository, average, by_epoch, sequence
from tools.parity.recipes.timm_train import CROP

REPOSITORY = Repository("pytorch/vision", "017e9b99b5daddec3d82d5b05fe26f6834c48fa9")
PRESETS = Repository("pytorch/vision", "080836e5824eded4f6249bf88b5fd4a51e446a04")
MIXING = Repository("pytorch/vision", "02a0a90b7ad1e9d69f1f392ad6701eb069f7db02")
SAMPLER = Repository("pytorch/vision", "775e76043cb82dec48ea07c7f96917f66413017f")
COMMAND = "pytorch/vision issue 3995, comment 1013906621"
RECIPES = {"resnet50_tv2": ("",)}
POLICY = "torchvision TrivialAugmentWide"
EPOCHS, PER_EPOCH, PEAK = 600, 160_128 // 128, 0.5


def rates() -> list[float]:
    """torch's own ``LinearLR`` and ``CosineAnnealingLR`` in sequence, one value an epoch."""
    torch = formulas.torch
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=PEAK)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS - 5)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[5])
    found = []
    for _ in range(EPOCHS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def mixing(size: int = 176) -> dict[str, Any]:
    """One of Mixup and CutMix for a batch, half and half, with the previous image."""
    rng = np.random.RandomState(0)
    mixup = rng.beta(0.2, 0.2, draws.DRAWS // 2)
    half = (0.5 * np.sqrt(1 - rng.beta(1.0, 1.0, draws.DRAWS // 2)) * size).astype(int)
    sides = []
    for centre in (rng.randint(0, size, half.shape), rng.randint(0, size, half.shape)):
        sides.append(np.minimum(centre + half, size) - np.maximum(centre - half, 0))
    cutmix = 1 - sides[0] * sides[1] / size**2
    return {"partner": "previous", "drawn per": "batch"} | draws.mixing_statistics(mixup, cutmix)


def loss(logits: Any, labels: Any, partners: Any, lam: float) -> Any:
    """torch's cross-entropy, which smooths the mixed targets."""
    targets = formulas.timm_targets(labels, partners, lam, 0.0).to(logits.dtype)
    return formulas.torch.nn.CrossEntropyLoss(label_smoothing=0.1)(logits, targets)


def erasing() -> dict[str, Any]:
    """torchvision's own ``RandomErasing``: boxes by ``get_params``; one of the whole image stands for none."""
    from torchvision.transforms import RandomErasing

    torch = formulas.torch

    def shapes(size: int, count: int) -> np.ndarray:
        torch.manual_seed(0)
        image = torch.zeros(1, size, size)
        boxes = [RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[2:4] for _ in range(count)]
        return np.array([(0, 0, 0) if box == (size, size) else (box[0] * box[1] / size**2, *box) for box in boxes])

    torch.manual_seed(1)
    chosen = (torch.rand(10_000) < 0.1).numpy()[:, None]
    return draws.erasing_statistics(shapes(16, 10_000) * chosen, shapes(176, 10_000), 1)


def policies() -> dict[str, Fact]:
    """torchvision's own bins, with both signs where an operation has one; whole pixels as its operations take them."""
    from torchvision.transforms import TrivialAugmentWide

    space = TrivialAugmentWide()._augmentation_space(31)
    operations = {}
    for name, (bins, signed) in space.items():
        values = bins.tolist() if bins.ndim else []
        values = [int(v) for v in values] if name.startswith("Translate") or name == "Posterize" else values
        values = sorted({sign * v for v in values for sign in ((1, -1) if signed else (1,))})
        factor = name in ("Brightness", "Color", "Contrast", "Sharpness")
        operations[name] = {"share": 1 / len(space), "arguments": [1 + v for v in values] if factor else values}
    where = (
        PRESETS.at("references/classification/presets.py:28-29") + "; torchvision/transforms/autoaugment.py of 0.28.0"
    )
    return {POLICY: Fact({"layers": 1, "fill": [0, 0, 0], "operations": operations}, where)}


def facts(_config: str, _variant: str) -> Facts:
    """Every fact of the recipe."""

    def at(lines: str) -> str:
        return REPOSITORY.at(f"references/classification/train.py:{lines}") + f"; {COMMAND}"

    copied = 5 * -(-PER_EPOCH // 32)  # updates of the warm-up; the next one starts afresh, and copies, too
    alpha = min(1.0, (1 - 0.99998) * 1024 * 32 / EPOCHS)
    decayed = formulas.decay_groups("resnet50", lambda name, ndim, norm: not norm)
    sampler = SAMPLER.at("references/classification/sampler.py")
    return {
        "batch": Fact(8 * 128, COMMAND),
        "replicas": Fact(8, COMMAND),
        "image size": Fact(176, COMMAND),
        "steps": Fact(EPOCHS * PER_EPOCH, f"{sampler}; {COMMAND}"),
        "stochastic depth": Fact([0.0] * 16, "torchvision/models/resnet.py"),
        "dropout": Fact(0.0, "torchvision/models/resnet.py"),
        "learning rate": Fact(
            sequence(by_epoch(rates(), PER_EPOCH), EPOCHS * PER_EPOCH, PER_EPOCH, 5, EPOCHS), at("258-287,340")
        ),
        "weight decay": Fact({"form": "coupled", "coefficient": 2e-5}, COMMAND),
        "decayed parameters": Fact(decayed, at("229-234")),
        "optimizer": Fact({"rule": "sgd", "momentum": 0.9, "nesterov": False}, at("236-244")),
        "gradient clipping": Fact(0.0, at("41-42")),
        "ema": Fact(average(lambda update: 0.0 if update <= copied else 1 - alpha, 32), at("48-52,294-306")),
        "crop": Fact(CROP, PRESETS.at("references/classification/presets.py:20")),
        "train filter": Fact("bilinear antialiased", PRESETS.at("references/classification/presets.py:13,20")),
        "repeated augmentation": Fact(4, f"{sampler}; {COMMAND}"),
        "policy": Fact([POLICY], COMMAND),
        "color jitter": Fact(0.0, PRESETS.at("references/classification/presets.py:20-44")),
        "flip": Fact(0.5, PRESETS.at("references/classification/presets.py:14,21-22")),
        "erased values": Fact("zero", PRESETS.at("references/classification/presets.py:43-44")),
        "erasing": Fact(erasing(), f"{PRESETS.at('references/classification/presets.py:43-44')}; {COMMAND}"),
        "mixing": Fact(
            mixing(), MIXING.at("references/classification/transforms.py:61-73,134-168") + "; " + at("190-199")
        ),
        "loss": Fact(formulas.losses(loss), at("227")),
        "evaluation size": Fact(224, COMMAND),
        "evaluation crop": Fact({"order": "resize, crop", "kept": 224 / 232}, COMMAND),
        "evaluation filter": Fact("bilinear antialiased", PRESETS.at("references/classification/presets.py:59-66")),
    }
