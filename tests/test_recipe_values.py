"""Values of recipes that their sources state in a command line or in code: each is wrong if it changes."""

import types

import cli
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from reference import timm as _timm  # noqa: F401  (makes timm importable)
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy

from jaxvision import config as config_lib
from jaxvision.main import load_config
from jaxvision.models.registry import build_module
from jaxvision.models.stochastic_depth import DROP_PATH_RULES
from jaxvision.models.variables import init_variables
from jaxvision.optim.groups import choose_groups, layer_ids
from jaxvision.optim.losses import TeacherConfig, make_loss, smoothed_one_hot
from jaxvision.train import build


def load(recipe):
    return load_config(f"{cli.ROOT}/configs/{recipe}", [])


@pytest.mark.parametrize(
    ("recipe", "smoothing", "threshold"),
    [
        ("resnet50_a1.py", 0.1, None), ("resnet50_a1.py:hard", 0.1, 0.2), ("resnet50d_a1.py", 0.1, None),
        ("resnet50_a2.py", 0.0, 0.2), ("resnet50_a2.py:soft", 0.0, None),
        ("resnet50_a3.py", 0.0, 0.2), ("resnet50_a3.py:soft", 0.0, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.7, 0.15])
def test_strikes_backs_loss_of_mixed_images_is_timms(recipe, smoothing, threshold, share):
    """--bce-loss, with --bce-target-thresh 0.2 or without; a class of less than a fifth of the mix does not count."""
    c = config_lib.resolve(load(recipe))
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 10)).astype(np.float32) * 3, rng.permutation(6)
    one_hot = smoothed_one_hot(jnp.asarray(labels), 10, c.loss.label_smoothing)
    found = make_loss(c.loss)(jnp.asarray(logits), share * one_hot + (1 - share) * one_hot[::-1]).mean()
    targets = mixup_target(torch.from_numpy(labels), 10, lam=share, smoothing=smoothing)
    expected = BinaryCrossEntropy(smoothing=smoothing, target_threshold=threshold)(torch.from_numpy(logits), targets)
    np.testing.assert_allclose(found, expected.item(), rtol=1e-5)


# README_revenge.md of facebookresearch/deit: its command lines of 224 and 384 px, and main.py's defaults.
DEIT3_FINETUNE = {
    "batch_size": 8 * 64, "epochs": 20, "optimizer.name": "adamw", "optimizer.learning_rate": 1e-5,
    "optimizer.weight_decay": 0.1, "optimizer.eps": 1e-8, "optimizer.clip_norm": 0, "optimizer.layer_decay": 1,
    "schedule.name": "cosine", "schedule.warmup_epochs": 5, "schedule.start_learning_rate": 1e-6,
    "schedule.end_learning_rate": 1e-5, "loss.name": "cross_entropy", "loss.label_smoothing": 0.1,
    "augment.policy": "rand-m9-mstd0.5-inc1", "augment.erase_prob": 0, "augment.mixup": 0.8, "augment.cutmix": 1,
    "data.repeats": 1, "model.drop_rate": 0, "model.drop_path_rule": "constant", "eval.crop_pct": 1,
}  # fmt: skip
# TRAINING.md of facebookresearch/ConvNeXt, and main.py's defaults.
CONVNEXT_FINETUNE = {
    "batch_size": 2 * 8 * 32, "epochs": 30, "optimizer.name": "adamw", "optimizer.learning_rate": 5e-5,
    "optimizer.weight_decay": 1e-8, "optimizer.eps": 1e-8, "optimizer.layer_decay": 0.7,
    "optimizer.layer_groups": "paper", "schedule.name": "cosine", "schedule.warmup_epochs": 0,
    "schedule.end_learning_rate": 1e-6, "schedule.per_epoch": False, "loss.label_smoothing": 0.1,
    "augment.policy": "rand-m9-mstd0.5-inc1", "augment.erase_prob": 0.25, "augment.mixup": 0, "augment.cutmix": 0,
    "model.image_size": 384, "eval.crop_mode": "squash", "eval.crop_pct": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "stated", "model", "pixels", "rate", "gpus"),
    [
        ("deit3_finetune.py", DEIT3_FINETUNE, "deit3_base_patch16_224", 224, 0.2, 8),
        ("deit3_finetune.py:l", DEIT3_FINETUNE, "deit3_large_patch16_224", 224, 0.45, 8),
        ("deit3_finetune.py:s384", DEIT3_FINETUNE, "deit3_small_patch16_384", 384, 0.0, 8),
        ("deit3_finetune.py:b384", DEIT3_FINETUNE, "deit3_base_patch16_384", 384, 0.15, 16),
        ("deit3_finetune.py:l384", DEIT3_FINETUNE, "deit3_large_patch16_384", 384, 0.4, 32),
        ("convnext_finetune.py", CONVNEXT_FINETUNE, "convnext_base", 384, 0.8, 16),
        ("convnext_finetune.py:l", CONVNEXT_FINETUNE, "convnext_large", 384, 0.95, 16),
    ],
)
def test_fine_tuning_has_the_values_of_its_command_line(recipe, stated, model, pixels, rate, gpus):
    c = load(recipe)
    assert c.model.weights == config_lib.REQUIRED
    flat = config_lib.flatten(c)
    stated = stated | {"model.name": model, "model.image_size": pixels, "model.drop_path_rate": rate, "replicas": gpus}
    assert {name: flat[name] for name in stated} == stated


def test_deit3_fine_tunes_with_a_constant_depth_and_convnext_by_its_own_groups():
    c = load("deit3_finetune.py")
    assert DROP_PATH_RULES[c.model.drop_path_rule](c.model.drop_path_rate, [12]) == ((0.2,) * 12,)
    c = load("convnext_finetune.py")
    names = ["stem.0.weight", *(f"stages.{s}.blocks.{b}.gamma" for s, n in enumerate((3, 3, 27, 3)) for b in range(n))]
    ids = layer_ids(
        [*names, "head.fc.weight"], choose_groups(c.optimizer.layer_groups, type(build_module(c.model.name)))
    )
    assert ids[1] == 1 and max(ids) == 13  # the first block's rate is 0.7 to the 12th


def test_distillation_is_at_deits_temperature_by_default():
    """main.py of facebookresearch/deit: --distillation-tau 1.0, --distillation-alpha 0.5."""
    assert (TeacherConfig().temperature, TeacherConfig().alpha) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("recipe", "start"), [("resnet50_tv2.py", 1.0), ("resnet50_a2.py", 0.0), ("resnest50.py", 0.0)]
)
def test_where_the_last_scale_of_a_block_starts(recipe, start):
    """torchvision's resnet.py: zero_init_residual=False, which its references do not change; timm and ResNeSt: 0."""
    c = load(recipe)
    c.model.name = "resnest14d" if "resnest" in recipe else "resnet14t"
    module = build.build_network(config_lib.resolve(c), types.SimpleNamespace(num_classes=2)).module
    params = init_variables(module, jax.random.key(0))["params"]
    scales = [value["bn3"]["weight"] for name, value in params.items() if name.startswith("layer")]
    assert len(scales) == 4 and all((np.asarray(scale) == start).all() for scale in scales)
    first = [value["bn1"]["weight"] for name, value in params.items() if name.startswith("layer")]
    assert all((np.asarray(scale) == 1.0).all() for scale in first)


def test_efficientnetv2_trains_on_the_images_and_steps_of_its_code():
    """datasets.py and main.py of google/automl efficientnetv2: 1,256,144 images, 350 epochs of them at 4096."""
    c = config_lib.resolve(load("efficientnetv2_b0.py"))
    assert c.data.train_split == "train[25023:]"
    assert 350 * (1_281_167 - 25_023) // 4096 == 107_336
    assert build.lengths(c, 1_281_167 - 25_023).total == 107_336 + 1  # the last one is not a whole one
    assert load("efficientnetv2_b0.py:digits").data.train_split == "train"
