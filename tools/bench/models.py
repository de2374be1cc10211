"""What the benchmarks share: the ten models of the comparison, and the training step that speed is measured with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jaxvision
    from jaxvision.train.state import TrainState

# The ten models of the comparison (benchmarks/README.md): nine that a published comparison of well-trained ResNets with
# transformers measured, and DeiT-S.
COMPARISON = (
    "tf_efficientnetv2_b0", "tf_efficientnet_b0", "resnet50", "resnet50d", "resnetrs50", "seresnext50_32x4d",
    "convnext_tiny", "resnest50d", "swin_tiny_patch4_window7_224", "deit_small_patch16_224",
)  # fmt: skip
# SGD with momentum: what both sides train with.
RATE, MOMENTUM, DECAY = 0.1, 0.9, 1e-4


def training(model: jaxvision.Model) -> tuple[TrainState, Callable]:
    """The state before the first step, and the step.

    The EMA of the weights is part of our step and not of timm's: it is left on, so ours does a little more.
    """
    from jaxvision.config import KERNELS_ONLY, Config
    from jaxvision.ops.program import prepare_train_step
    from jaxvision.optim.optimizers import OptimizerConfig, make_optimizer
    from jaxvision.train.state import create_state
    from jaxvision.train.step import make_train_step

    sgd = OptimizerConfig(name="sgd", momentum=MOMENTUM, nesterov=False, weight_decay=DECAY, decay_rules=KERNELS_ONLY)
    optimizer = make_optimizer(sgd, model.variables["params"])
    step = make_train_step(Config(log_every=1), model.module, optimizer, lambda step: RATE)
    return create_state(model.variables, optimizer), prepare_train_step(step)
