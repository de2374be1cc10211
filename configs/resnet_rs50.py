"""ResNet-RS-50 (to 420): Bello et al. 2021, "Revisiting ResNets", arXiv 2103.07579.

  python -m jaxvision.main --config configs/resnet_rs50.py --workdir runs/rs50
  python -m jaxvision.main --config configs/resnet_rs50.py:digits        # the same program, no download
  # also :101 :152 :200 :270 :350 :420, 152,digits, 152,folder=PATH, tfds=NAME

Source: tensorflow/tpu models/official/resnet/resnet_rs, and tensorflow/models (Model Garden). Published top-1
(README.md of resnet_rs, ReLU), 350 epochs: 50 at 160 px 78.8, 101 at 192 px 81.2, 152 at 256 px 83.0, 200 at 256 px
83.4, 270 at 256 px 83.8, 350 at 320 px 84.2, 420 at 320 px 84.4. Model Garden's swish variants: 79.1 for 50. timm's
evaluation of the published RS-50 weights gives 77.858 at 160 px.
Hardware: TPUs; the number of cores is not published, 32 cores x 128 are assumed.

What follows the paper and tensorflow/tpu: batch 4096, learning rate 1.6, stem, SE 0.25, zero-initialised last scale,
stochastic depth per stage, dropout, RandAugment as TensorFlow computes it (N 2, M 10 or 15), TF's crop sampling, TF1's
bicubic filter, label smoothing, EMA of parameters and BN statistics with TF's warm-up, which is what is reported,
Nesterov momentum, BN running statistics that are those of the last batch (evaluation uses their EMA), per-device BN.
From Model Garden: the cosine from the first step (the paper names a cosine, the public TF1 code only has steps), the
warm-up of 5 epochs that ends on it, and weight decay on kernels only (tensorflow/tpu: on all but BN). Evaluation crops
0.875 of the short side, as tensorflow/tpu since 22d5cab (2021-11-15) and Model Garden; when the paper appeared it was
size / (size + 32): --config.eval.crop_pct=0.8333 for 160 px.

Run so far: `:digits` only: 99.44 % top-1 on its 360 test images, raw and EMA (2 CPU cores,
benchmarks/results/digits_resnetrs50_cpu2_2026-11-26.jsonl). No ImageNet run yet.
"""

from jaxvision.config import KERNELS_ONLY, base_config
from jaxvision.recipes import parse_argument, use_data

# pixels, dropout, stochastic depth, RandAugment's magnitude
MODELS = {
    "50": (160, 0.25, 0.0, 10.0),
    "101": (192, 0.25, 0.0, 15.0),
    "152": (256, 0.25, 0.0, 15.0),
    "200": (256, 0.25, 0.1, 15.0),
    "270": (256, 0.25, 0.1, 15.0),
    "350": (320, 0.4, 0.1, 15.0),
    "420": (320, 0.4, 0.1, 15.0),
}


def get_config(arg=""):
    variant, data = parse_argument(arg, list(MODELS), "resnet_rs50")
    size, dropout, depth, magnitude = MODELS[variant]
    c = base_config()
    c.batch_size = 4096
    c.epochs = 350.0
    c.batch_norm = "per_device"
    c.replicas = 32
    c.model.name = f"resnetrs{variant}"
    c.model.image_size = size
    c.model.drop_rate = dropout
    c.model.drop_path_rate = depth
    c.model.bn_momentum = 1.0
    c.data.crop = "tf"
    c.data.dct_method = "fast"
    c.data.resize = "tf_bicubic"
    c.augment.flip = True
    c.augment.randaugment_layers = 2
    c.augment.randaugment_magnitude = magnitude
    c.optimizer.learning_rate = 1.6
    c.optimizer.weight_decay = 4e-5
    c.optimizer.decay_rules = KERNELS_ONLY
    c.schedule.warmup = "joined"
    c.loss.label_smoothing = 0.1
    c.eval.interpolation = "tf_bicubic"
    c.eval.crop_mode = "crop_first"
    c.eval.crop_pct = 0.875
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    if data == "digits":
        digits(c)
    return c


def digits(c) -> None:
    """8x8 handwritten digits scaled to 32 px: 1437 train, 360 test. Minutes on two CPU cores."""
    c.epochs = 16.0
    c.model.bn_momentum = 0.1  # the statistics of a single batch of 64 are too noisy
    c.data.crop = "torch"
    c.augment.randaugment_layers = 1
    c.augment.randaugment_magnitude = 3.0
    c.augment.translate_const = 10.0
    c.augment.cutout_const = 20.0
    c.optimizer.learning_rate = 0.05
    c.schedule.warmup_epochs = 2.0
