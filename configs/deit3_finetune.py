"""DeiT-III, the fine-tuning on ImageNet-1k that its published figures include: Touvron et al. 2022, arXiv 2204.07118.

  python -m jaxvision.main --config configs/deit3_finetune.py --config.model.weights=runs/deit3_b \
      --config.model.weights_ema=false --workdir runs/deit3_b_224
  # also :l at 224 px and :s384 :b384 :l384, b,digits, b,folder=PATH; the weights: .safetensors, .pth or a run's workdir

Source: facebookresearch/deit README_revenge.md, main.py. Published top-1 (README_revenge.md): from the weights of 800
epochs at 192 px, B 83.8 and L 84.9 at 224 px; from these, and S from 224 px, S 83.4, B 85.0 and L 85.8 at 384 px;
timm's evaluation (crop 0.9 at 224 px, 1 at 384) 83.800, 84.772, 83.432, 85.088, 85.820.
Hardware: 8 GPUs x 64 (:b, :l, :s384), 16 x 32 (:b384), 32 x 16 (:l384).

What follows the source: AdamW, batch 512, 20 epochs, 5 of them warm-up from 1e-6 to a learning rate of 1e-5, which is
also the end of the cosine, so it stays constant; set per epoch and, as in the source, one epoch late; weight decay
0.1 (not on vectors, positions and tokens), no layer decay, cross-entropy with smoothing 0.1, RandAugment m9 mstd0.5
inc1, Mixup 0.8 and CutMix 1.0, no erasing, no repeated augmentation, the same stochastic depth in every block, 0.2
(:b), 0.45 (:l), 0 (:s384), 0.15 (:b384), 0.4 (:l384), evaluation with crop 1. It starts from the raw weights. The EMA
(decay 0.99996) is tracked, the raw weights are reported: top1, not ema_top1.
What differs: the position table is resampled with Pillow's cubic kernel (a = -0.5), in the source with torch's (a =
-0.75); the last, partial batch of an epoch, which the source drops, is used.

Run so far: its train step is only traced, in the tests. No ImageNet run yet.
"""

from jaxvision.config import REQUIRED, base_config
from jaxvision.recipes import VECTORS_POSITIONS_TOKENS, decay_all_but, parse_argument, use_data

# model, pixels, stochastic depth, GPUs
MODELS = {
    "b": ("deit3_base_patch16_224", 224, 0.2, 8),
    "l": ("deit3_large_patch16_224", 224, 0.45, 8),
    "s384": ("deit3_small_patch16_384", 384, 0.0, 8),
    "b384": ("deit3_base_patch16_384", 384, 0.15, 16),
    "l384": ("deit3_large_patch16_384", 384, 0.4, 32),
}


def get_config(arg=""):
    variant, data = parse_argument(arg, list(MODELS), "deit3_finetune")
    c = base_config()
    c.batch_size = 512
    c.epochs = 20.0
    c.model.name, c.model.image_size, c.model.drop_path_rate, c.replicas = MODELS[variant]
    c.model.drop_path_rule = "constant"
    c.model.weights = REQUIRED
    c.data.resize = "bicubic"
    c.augment.policy = "rand-m9-mstd0.5-inc1"
    c.augment.mixup = 0.8
    c.augment.cutmix = 1.0
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-5
    c.optimizer.weight_decay = 0.1
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
    c.eval.crop_pct = 1.0
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    return c
