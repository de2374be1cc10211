"""ResNet-RS-50 at 160 px: Bello et al. 2021, "Revisiting ResNets", arXiv 2103.07579.

  python -m jaxvision.main --config configs/resnet_rs50.py --workdir runs/rs50
  python -m jaxvision.main --config configs/resnet_rs50.py:digits        # the same program, no download

Published: 78.8 % top-1 (tensorflow/tpu, ReLU), 79.1 % (Model Garden, swish); 350 epochs at
batch 4096 on TPUs. timm's evaluation of the published weights gives 77.858 % at 160 px.

What follows the paper and tensorflow/tpu: stem, SE 0.25, zero-initialised last scale,
stochastic depth per stage, dropout, RandAugment with TensorFlow's semantics (N 2, M 10),
TF's crop law, label smoothing, EMA of parameters and BN statistics with TF's warm-up,
Nesterov momentum, BN running statistics that are those of the last batch (the EMA over
them is what is evaluated), per-device BN. Cosine from the paper (the public TF1 code has
steps only), warm-up of 5 epochs and decay of kernels only from Model Garden.
What differs: the resize of training crops (data.resize), which is TF1's legacy bicubic there.

Really run here: `:digits` only: 99.72 % top-1 on its 360 test images, raw and EMA (2026-11-22, 2 CPU cores,
benchmarks/results/). No ImageNet run yet.
"""

from jaxvision.config import KERNELS_ONLY, base_config
from jaxvision.errors import UserError, did_you_mean

VARIANTS = ("", "digits")


def get_config(arg=""):
    if arg not in VARIANTS:
        raise UserError(f"unknown variant {arg!r} of resnet_rs50.{did_you_mean(arg, VARIANTS)} Known: digits")
    c = base_config()
    c.batch_size = 4096
    c.epochs = 350.0
    c.batch_norm = "per_device"
    c.model.name = "resnetrs50"
    c.model.image_size = 160
    c.model.drop_rate = 0.25
    c.model.drop_path_rate = 0.0
    c.model.bn_momentum = 1.0
    c.data.crop = "tf"
    c.augment.flip = True
    c.augment.randaugment_layers = 2
    c.augment.randaugment_magnitude = 10.0
    c.optimizer.learning_rate = 1.6
    c.optimizer.weight_decay = 4e-5
    c.optimizer.decay_rules = KERNELS_ONLY
    c.loss.label_smoothing = 0.1
    c.checkpoint.every_steps = 1000
    if arg == "digits":
        digits(c)
    return c


def digits(c) -> None:
    """8x8 handwritten digits scaled to 32 px: 1437 train, 360 test. Minutes on two CPU cores."""
    c.batch_size = 64
    c.epochs = 16.0
    c.batch_norm = "global"
    c.model.image_size = 32
    c.model.bn_momentum = 0.1  # a batch of 64 is too small to stand for all
    c.data.name = "digits"
    c.data.eval_split = "test"
    c.data.crop = "torch"
    c.data.crop_area = (0.6, 1.0)
    c.data.resize = "linear"
    c.eval.crop_pct = 1.0
    c.eval.every_epochs = 4.0
    c.augment.flip = False  # digits are not symmetric
    c.augment.randaugment_layers = 1
    c.augment.randaugment_magnitude = 3.0
    c.augment.translate_const = 10.0
    c.augment.cutout_const = 20.0
    c.optimizer.learning_rate = 0.05
    c.schedule.warmup_epochs = 2.0
    c.log_every = 10
    c.checkpoint.every_steps = 50
