"""EfficientNet-B0 to B7: Tan & Le 2019, arXiv 1905.11946, with AutoAugment.

  python -m jaxvision.main --config configs/efficientnet_b0.py --workdir runs/b0
  # also :b1 ... :b7, b3,digits, b3,folder=PATH, tfds=NAME

Source: tensorflow/tpu models/official/efficientnet. Published top-1, B0 to B7 (README.md): 77.1, 79.1, 80.1, 81.6,
82.9, 83.6, 84.0, 84.3; timm's evaluation 76.882, 78.840, 80.074, 81.648, 83.040, 83.696, 84.124, 84.424.
Hardware: TPUs; the number of cores is not published.

What follows the source: TensorFlow's RMSProp, batch 2048, learning rate 0.128, multiplied by 0.97 every 2.4 epochs
counted from the first step, with 5 epochs of warm-up, 350 epochs, weight decay 1e-5 on all but BN, dropout, stochastic
depth 0.2, smoothing 0.1, AutoAugment v0 with TensorFlow's operations, TF's crop sampling and TF1's bicubic filter, EMA
with decay 0.9999 and warm-up, which is what is reported, BN with decay 0.99 and epsilon 1e-3 over max(8, n / 8) of n
TPU cores, so from 64 cores on in 8 groups of 256 images, SAME padding, evaluation with a crop of size / (size + 32).
What differs: the published runs held out 20 of 1024 shards and kept the checkpoint that was best on them; the paper's
learning rate is 0.256; a length of 218,949.4 steps is rounded up, and the warm-up's to the nearest, both of which the
source truncates.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.config import base_config
from jaxvision.recipes import decay_all_but, parse_argument, use_data

# pixels, dropout
MODELS = {
    "b0": (224, 0.2),
    "b1": (240, 0.2),
    "b2": (260, 0.3),
    "b3": (300, 0.3),
    "b4": (380, 0.4),
    "b5": (456, 0.4),
    "b6": (528, 0.5),
    "b7": (600, 0.5),
}
NORMS = r".*bn\d\.(weight|bias):1d"


def get_config(arg=""):
    variant, data = parse_argument(arg, list(MODELS), "efficientnet_b0")
    size, dropout = MODELS[variant]
    c = base_config()
    c.batch_size = 2048
    c.epochs = 350.0
    c.batch_norm = "per_device"
    c.replicas = 8
    c.model.name = f"tf_efficientnet_{variant}"
    c.model.image_size = size
    c.model.drop_rate = dropout
    c.model.drop_path_rate = 0.2
    c.model.bn_momentum = 0.01
    c.data.crop = "tf"
    c.data.dct_method = "fast"
    c.data.resize = "tf_bicubic"
    c.augment.policy = "tf-v0"
    c.optimizer.name = "rmsprop_tf"
    c.optimizer.learning_rate = 0.128
    c.optimizer.eps = 1e-3
    c.optimizer.weight_decay = 1e-5
    c.optimizer.decay_rules = decay_all_but(NORMS)
    c.schedule.name = "exponential"
    c.schedule.warmup = "under"
    c.schedule.warmup_epochs = 5.0
    c.schedule.decay_epochs = 2.4
    c.schedule.decay_rate = 0.97
    c.loss.label_smoothing = 0.1
    c.eval.interpolation = "tf_bicubic"
    c.eval.crop_mode = "crop_first"
    c.eval.crop_pct = size / (size + 32)
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    return c
