"""efficientnetv2_b0: google/automl, efficientnetv2."""

from __future__ import annotations

from typing import Any

import numpy as np

from tools.parity.recipes import draws, efficientnet_blocks, tensorflow_tpu
from tools.parity.recipes import torch_formulas as formulas
from tools.parity.recipes.facts import Fact, Facts, Repository, sequence

REPOSITORY = Repository("google/automl", "6a54c8741e7c3265d4547c4f35f47a0391122dc5")
# blocks, width, depth, train and evaluation size, dropout, magnitude, alpha
MODELS = {
    "b0": ("b", 1.0, 1.0, 192, 224, 0.2, 0, 0.0),
    "b1": ("b", 1.0, 1.1, 192, 240, 0.2, 0, 0.0),
    "b2": ("b", 1.1, 1.2, 208, 260, 0.3, 0, 0.0),
    "b3": ("b", 1.2, 1.4, 240, 300, 0.3, 0, 0.0),
    "s": ("s", 1.0, 1.0, 300, 384, 0.2, 10, 0.0),
    "m": ("m", 1.0, 1.0, 384, 480, 0.3, 15, 0.2),
    "l": ("l", 1.0, 1.0, 384, 480, 0.4, 20, 0.5),
}
RECIPES = {"efficientnetv2_b0": tuple(MODELS)}
STAGES = 4
CROP = "tensorflow, area 0.05-1, ratio 0.75-1.33, 100 attempts"


def stage_sizes(size: int) -> list[int]:
    """Image sizes of the stages: from 128, of which none is trained at, to ``size``."""
    return [int(128 + (size - 128) * (stage + 1) / STAGES) for stage in range(STAGES)]


def randaugments(magnitude: int) -> list[str]:
    """Names of the stages' policies."""
    return [f"tensorflow RandAugment {value:.4g}" for value in np.linspace(5, magnitude, STAGES)]


def mixing(alpha: float, size: int) -> dict[str, Any]:
    """The last stage: Mixup with a lambda for each example for one half of the batch, CutMix for the other.

    The labels of CutMix all have the mean of the half batch's masks as their weight, not each its own mask's.
    """
    rng = np.random.RandomState(0)
    lam = rng.beta(alpha, alpha, draws.DRAWS)
    side = (np.sqrt(1 - rng.beta(alpha, alpha, draws.DRAWS)) * size).astype(int)
    sides = []
    for centre in (rng.randint(0, size, side.shape), rng.randint(0, size, side.shape)):
        sides.append(np.clip(centre + side // 2, 0, size) - np.clip(centre - side // 2, 0, size))
    own = 1 - sides[0] * sides[1] / size**2
    statistics = draws.mixing_statistics(np.maximum(lam, 1 - lam), own)
    return {"partner": "mirrored in its half", "drawn per": "example", "CutMix labels": "mean of the half"} | statistics


def loss(logits: Any, labels: Any, partners: Any, lam: float) -> Any:
    """TensorFlow's softmax cross-entropy: mixed targets, then smoothed."""
    targets = formulas.timm_targets(labels, partners, lam, 0.0) * 0.9 + 0.1 / logits.shape[-1]
    return -(targets * formulas.torch.log_softmax(logits, -1)).sum(-1).mean()


def policies() -> dict[str, Fact]:
    """The policies, by name."""
    from tools.parity.recipes import tensorflow_formulas

    where = REPOSITORY.at("efficientnetv2/autoaugment.py:471-524,663-702", "efficientnetv2/main.py:464,478")
    found = {}
    for _, _, _, _, _, _, magnitude, _ in MODELS.values():
        if magnitude:
            for name, value in zip(randaugments(magnitude), np.linspace(5, magnitude, STAGES), strict=True):
                found[name] = Fact(tensorflow_formulas.randaugment(value), where)
    return found


def facts(_config: str, variant: str) -> Facts:
    """Every fact of one variant."""
    blocks, width, depth, size, evaluated, dropout, magnitude, alpha = MODELS[variant]
    images, batch = 1_256_144, 4096
    per_epoch, total = images / batch, 350 * images // batch

    def at(*places: str) -> str:
        return REPOSITORY.at(*(f"efficientnetv2/{place}" for place in places))

    values = "effnetv2_configs.py:190-231"
    rates = efficientnet_blocks.depth(efficientnet_blocks.V2[blocks], width, depth, 0.2, False)
    squash = evaluated >= 320
    legacy = not magnitude
    mixed = Fact(mixing(alpha, size), at("datasets.py:191-301", "main.py:465-480", values)) if alpha else None
    return {
        "batch": Fact(batch, at("hparams.py:262")),
        "replicas": Fact(None, at("hparams.py:262") + "; the number of TPU cores is not published"),
        "image size": Fact(stage_sizes(size), at("main.py:468-474", values, "hparams.py:284")),
        "steps": Fact(total, at("main.py:381-383", "datasets.py:85")),
        "stochastic depth": Fact(rates, at("effnetv2_model.py:266-274,623-628", "hparams.py:234", values)),
        "dropout": Fact(dropout, at(values, "main.py:458-463,481")),
        "learning rate": Fact(
            sequence(lambda steps: tensorflow_tpu.staircase(steps, 0.256, per_epoch), total, per_epoch, 5, 350),
            at("utils.py:101-131", "hparams.py:249-255", "main.py:157-167"),
        ),
        "weight decay": Fact({"form": "coupled", "coefficient": 1e-5}, at("hparams.py:257", "main.py:129-140")),
        "decayed parameters": Fact(
            formulas.decay_groups(f"tf_efficientnetv2_{variant}", lambda name, ndim, norm: ndim > 1),
            at("hparams.py:259", "main.py:134-139"),
        ),
        "optimizer": Fact(tensorflow_tpu.RMSPROP, at("utils.py:146-163", "main.py:169-170")),
        "gradient clipping": Fact(0.0, at("hparams.py:261")),
        "ema": Fact(tensorflow_tpu.ema(), at("hparams.py:256", "main.py:144-147,215-217")),
        "crop": Fact(
            tensorflow_tpu.CROP if legacy else CROP,
            at("preprocess_legacy.py:88-107" if legacy else "preprocessing.py:31-38"),
        ),
        "train filter": Fact(
            "bicubic, legacy coordinates" if legacy else "bilinear",
            at("preprocess_legacy.py:80-85" if legacy else "preprocessing.py:41"),
        ),
        "repeated augmentation": Fact(1, at("datasets.py:401-420")),
        "policy": Fact(
            [tensorflow_tpu.V0] if legacy else randaugments(magnitude),
            at(values, "main.py:464,478", "preprocessing.py:46-55"),
        ),
        "color jitter": Fact(0.0, at("preprocessing.py:22-55")),
        "flip": Fact(0.5, at("preprocess_legacy.py:132" if legacy else "preprocessing.py:43-44")),
        "erasing": Fact("none", at("preprocessing.py:22-55")),
        "mixing": mixed or Fact("none", at(values)),
        "loss": Fact(
            formulas.losses(loss) if alpha else tensorflow_tpu.one_label_loss(), at("main.py:121-124", "hparams.py:260")
        ),
        "evaluation size": Fact(evaluated, at(values)),
        "evaluation crop": Fact(
            {"order": "squash", "kept": 1.0}
            if squash
            else {"order": "crop, resize", "kept": evaluated / (evaluated + 32)},
            at("preprocess_legacy.py:110-127" if legacy else "preprocessing.py:58-70"),
        ),
        "evaluation filter": Fact(
            "bicubic, legacy coordinates" if legacy else "bilinear",
            at("preprocess_legacy.py:110-127" if legacy else "preprocessing.py:70"),
        ),
    }
