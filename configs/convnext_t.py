"""ConvNeXt-T, -S, -B from scratch: Liu et al. 2022, arXiv 2201.03545.

  python -m jaxvision.main --config configs/convnext_t.py --workdir runs/convnext_t
  # also :s :b, s,digits, s,folder=PATH, tfds=NAME

Source: facebookresearch/ConvNeXt TRAINING.md, main.py, optim_factory.py. Published top-1 at 224 px (README.md), of
the EMA weights: T 82.1, S 83.1, B 83.8; timm's evaluation 82.066, 83.144, 83.838.
Hardware: 32 GPUs x 128.

What follows the source: AdamW, batch 4096, learning rate 4e-3, 300 epochs, 20 of them warm-up whose last step has the
peak, cosine per step to 1e-6, weight decay 0.05 on kernels, RandAugment m9 mstd0.5 inc1, erasing 0.25, Mixup 0.8 and
CutMix 1.0, smoothing 0.1, stochastic depth 0.1 / 0.4 / 0.5, EMA with decay 0.9999 without warm-up, evaluation with
crop 0.875. The source also configures color jitter, which has no effect in its code.
What differs: the last, partial batch of an epoch, which the source drops, is used; nothing else that is known.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.config import base_config
from jaxvision.recipes import parse_argument, use_data

MODELS = {"t": ("convnext_tiny", 0.1), "s": ("convnext_small", 0.4), "b": ("convnext_base", 0.5)}


def get_config(arg=""):
    variant, data = parse_argument(arg, list(MODELS), "convnext_t")
    c = base_config()
    c.batch_size = 4096
    c.replicas = 32
    c.epochs = 300.0
    c.model.name, c.model.drop_path_rate = MODELS[variant]
    c.model.image_size = 224
    c.data.resize = "bicubic"
    c.augment.policy = "rand-m9-mstd0.5-inc1"
    c.augment.erase_prob = 0.25
    c.augment.mixup = 0.8
    c.augment.cutmix = 1.0
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 4e-3
    c.optimizer.weight_decay = 0.05
    c.schedule.warmup = "linspace"
    c.schedule.warmup_epochs = 20.0
    c.schedule.end_learning_rate = 1e-6
    c.loss.label_smoothing = 0.1
    c.ema.decay = 0.9999
    c.ema.warmup = False
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    return c
