"""DeiT-III-S, -B from scratch: Touvron et al. 2022, arXiv 2204.07118.

  python -m jaxvision.main --config configs/deit3_s.py --workdir runs/deit3_s
  # also :b, b,digits, b,folder=PATH, tfds=NAME

Source: facebookresearch/deit README_revenge.md, models_v2.py, augment.py, main.py. Published top-1 (its table and its
log): S 81.4 at 224 px; B 82.8 after these 800 epochs at 192 px, and 83.8 after 20 more at 224 px
(configs/deit3_finetune.py); timm's evaluation (crop 0.9) of the final weights 81.382, 83.800.
Hardware: 8 GPUs x 256, for both.

What follows the source: LAMB, which clips the gradient norm at 1, batch 2048, learning rate 4e-3 / 3e-3, 800 epochs, 5
of them warm-up from 1e-6, cosine from the first step to 1e-5, both set per epoch and, as in the source, one epoch
late, weight decay 0.05 (not on vectors, positions and tokens), BCE with all targets above 0 set to 1, Mixup 0.8 and
CutMix 1.0, three repeated augmentations, 3-Augment and color jitter 0.3, the same stochastic depth of 0.05 / 0.2 in
every block, layer scale 1e-4, evaluation with crop 1. The EMA (decay 0.99996) is tracked, the raw weights are
reported: top1, not ema_top1.
What differs: the class token is initialised with a standard deviation of 1e-6, as in timm today, in the source 0.02;
the last, partial batch of an epoch, which the source drops, is used.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.config import base_config
from jaxvision.recipes import VECTORS_POSITIONS_TOKENS, decay_all_but, parse_argument, use_data

# model, pixels, rate, stochastic depth
MODELS = {
    "s": ("deit3_small_patch16_224", 224, 4e-3, 0.05),
    "b": ("deit3_base_patch16_224", 192, 3e-3, 0.2),
}


def get_config(arg=""):
    variant, data = parse_argument(arg, list(MODELS), "deit3_s")
    c = base_config()
    c.batch_size = 2048
    c.replicas = 8
    c.epochs = 800.0
    c.model.name, c.model.image_size, c.optimizer.learning_rate, c.model.drop_path_rate = MODELS[variant]
    c.model.drop_path_rule = "constant"
    c.model.layer_scale = 1e-4
    c.data.resize = "bicubic"
    c.data.repeats = 3
    c.augment.policy = "3a"
    c.augment.color_jitter = 0.3
    c.augment.mixup = 0.8
    c.augment.cutmix = 1.0
    c.optimizer.name = "lamb"
    c.optimizer.eps = 1e-8
    c.optimizer.weight_decay = 0.05
    c.optimizer.decay_rules = decay_all_but(VECTORS_POSITIONS_TOKENS)
    c.schedule.warmup = "under"
    c.schedule.warmup_epochs = 5.0
    c.schedule.per_epoch = True
    c.schedule.delay_epochs = 1.0
    c.schedule.start_learning_rate = 1e-6
    c.schedule.end_learning_rate = 1e-5
    c.loss.name = "binary"
    c.loss.target_threshold = 0.0
    c.ema.decay = 0.99996
    c.ema.warmup = False
    c.eval.crop_pct = 1.0
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    return c
