"""Swin-T, -S, -B from scratch: Liu et al. 2021, arXiv 2103.14030.

  python -m jaxvision.main --config configs/swin_t.py --workdir runs/swin_t
  # also :s :b, s,digits, s,folder=PATH, tfds=NAME

Source: microsoft/Swin-Transformer config.py, lr_scheduler.py, optimizer.py, get_started.md. Published top-1 at 224 px
(README.md): T 81.2 (paper 81.3), S 83.2 (83.0), B 83.5; timm's evaluation 81.388, 83.228, 83.604.
Hardware: 8 GPUs x 128; B 8 x 64 in two accumulated steps.

What follows the source: AdamW, batch 1024, learning rate 1e-3, 300 epochs, 20 of them warm-up from 1e-6, cosine per
step to 1e-5, weight decay 0.05 on kernels (not on the position bias tables), gradient norm at most 5, RandAugment m9
mstd0.5 inc1, erasing 0.25, Mixup 0.8 and CutMix 1.0, smoothing 0.1, stochastic depth 0.2 / 0.3 / 0.5. The source has
no EMA: report top1, not ema_top1.
What differs: step n uses the schedule's value at n, in the source the value at n - 1, because its scheduler is updated
after the step; the last, partial batch of an epoch, which the source drops, is used.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.config import base_config
from jaxvision.recipes import decay_all_but, parse_argument, use_data

# model, stochastic depth, GPUs times accumulated steps
MODELS = {
    "t": ("swin_tiny_patch4_window7_224", 0.2, 8),
    "s": ("swin_small_patch4_window7_224", 0.3, 8),
    "b": ("swin_base_patch4_window7_224", 0.5, 16),
}
NOT_DECAYED = r".*(:[01]d|relative_position_bias_table:2d)"


def get_config(arg=""):
    variant, data = parse_argument(arg, list(MODELS), "swin_t")
    c = base_config()
    c.batch_size = 1024
    c.epochs = 300.0
    c.model.name, c.model.drop_path_rate, c.replicas = MODELS[variant]
    c.model.image_size = 224
    c.data.resize = "bicubic"
    c.augment.policy = "rand-m9-mstd0.5-inc1"
    c.augment.erase_prob = 0.25
    c.augment.mixup = 0.8
    c.augment.cutmix = 1.0
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.05
    c.optimizer.decay_rules = decay_all_but(NOT_DECAYED)
    c.optimizer.clip_norm = 5.0
    c.schedule.warmup_epochs = 20.0
    c.schedule.start_learning_rate = 1e-6
    c.schedule.end_learning_rate = 1e-5
    c.loss.label_smoothing = 0.1
    c.eval.crop_pct = 224 / 256
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    return c
