"""DeiT-S, -Ti, -B from scratch: Touvron et al. 2020, arXiv 2012.12877.

  python -m jaxvision.main --config configs/deit_s.py --workdir runs/deit_s
  # also :ti :b, ti,digits, ti,folder=PATH, tfds=NAME

Source: facebookresearch/deit main.py, README_deit.md, samplers.py. Published top-1 at 224 px (README_deit.md): Ti
72.2, S 79.9, B 81.8; timm's evaluation (crop 0.9) 72.190, 79.856, 81.980. Hardware: Ti and S 4 GPUs x 256, B 16 x 64.

What follows the source: AdamW, batch 1024, learning rate 1e-3, 300 epochs, 5 of them warm-up from 1e-6, cosine from
the first step to 1e-5, both set per epoch and, as in the source, one epoch late, weight decay 0.05 (not on vectors,
positions and tokens), RandAugment m9 mstd0.5 inc1, erasing 0.25, Mixup 0.8 and CutMix 1.0, smoothing 0.1, stochastic
depth 0.1, three repeated augmentations. The EMA (decay 0.99996) is tracked, the raw weights are reported: top1, not
ema_top1.
What differs: the class token is initialised with a standard deviation of 1e-6, as in timm today, in the source 0.02;
the last, partial batch of an epoch, which the source drops, is used.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.config import base_config
from jaxvision.recipes import VECTORS_POSITIONS_TOKENS, decay_all_but, parse_argument, use_data

# model, GPUs
MODELS = {
    "s": ("deit_small_patch16_224", 4),
    "ti": ("deit_tiny_patch16_224", 4),
    "b": ("deit_base_patch16_224", 16),
}


def get_config(arg=""):
    variant, data = parse_argument(arg, list(MODELS), "deit_s")
    c = base_config()
    c.batch_size = 1024
    c.epochs = 300.0
    c.model.name, c.replicas = MODELS[variant]
    c.model.image_size = 224
    c.model.drop_path_rate = 0.1
    c.data.resize = "bicubic"
    c.data.repeats = 3
    c.augment.policy = "rand-m9-mstd0.5-inc1"
    c.augment.erase_prob = 0.25
    c.augment.mixup = 0.8
    c.augment.cutmix = 1.0
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.05
    c.optimizer.decay_rules = decay_all_but(VECTORS_POSITIONS_TOKENS)
    c.schedule.warmup = "under"
    c.schedule.warmup_epochs = 5.0
    c.schedule.per_epoch = True
    c.schedule.delay_epochs = 1.0
    c.schedule.start_learning_rate = 1e-6
    c.schedule.end_learning_rate = 1e-5
    c.loss.label_smoothing = 0.1
    c.ema.decay = 0.99996
    c.ema.warmup = False
    c.eval.crop_pct = 0.875
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    return c
