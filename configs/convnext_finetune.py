"""ConvNeXt-B, -L at 384 px, fine-tuned on ImageNet-1k: Liu et al. 2022, arXiv 2201.03545.

  python -m jaxvision.main --config configs/convnext_finetune.py --config.model.weights=runs/convnext_b \
      --workdir runs/convnext_b_384
  # also :l, b,digits, b,folder=PATH, b,tfds=NAME; the weights: .safetensors, .pth or a run's workdir

Source: facebookresearch/ConvNeXt TRAINING.md, main.py, optim_factory.py. Published top-1 (README.md), from the
weights of 300 epochs at 224 px (for L it says the EMA weights): B 85.1, L 85.5. Hardware: 16 GPUs x 32.

What follows the source: AdamW, batch 512, learning rate 5e-5, 30 epochs without warm-up, cosine per step to 1e-6,
weight decay 1e-8 on kernels, layer decay 0.7 over 12 groups of layers and the stem (optim_factory.py: the learning
rate of the first block is 0.7^12 = 0.014 of the classifier's; with timm's groups, one per block, it would be 0.7^36),
RandAugment m9 mstd0.5 inc1, erasing 0.25, no Mixup and CutMix, smoothing 0.1, stochastic depth 0.8 / 0.95, evaluation
of the whole image squashed to a square. The source also configures color jitter, which has no effect in its code. It
has no EMA: report top1, not ema_top1.
What differs: a classifier for other classes starts as in training from scratch; the source multiplies these initial
values by 0.001; the last, partial batch of an epoch, which the source drops, is used.

Run so far: its train step is only traced, in the tests. No ImageNet run yet.
"""

from jaxvision.config import REQUIRED, base_config
from jaxvision.recipes import parse_argument, use_data

# model, stochastic depth
MODELS = {"b": ("convnext_base", 0.8), "l": ("convnext_large", 0.95)}


def get_config(arg=""):
    variant, data = parse_argument(arg, list(MODELS), "convnext_finetune")
    c = base_config()
    c.batch_size = 512
    c.epochs = 30.0
    c.replicas = 16
    c.model.name, c.model.drop_path_rate = MODELS[variant]
    c.model.image_size = 384
    c.model.weights = REQUIRED
    c.data.resize = "bicubic"
    c.augment.policy = "rand-m9-mstd0.5-inc1"
    c.augment.erase_prob = 0.25
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 5e-5
    c.optimizer.weight_decay = 1e-8
    c.optimizer.layer_decay = 0.7
    c.optimizer.layer_groups = "paper"
    c.schedule.warmup_epochs = 0.0
    c.schedule.end_learning_rate = 1e-6
    c.loss.label_smoothing = 0.1
    c.eval.crop_mode, c.eval.crop_pct = "squash", 1.0
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    return c
