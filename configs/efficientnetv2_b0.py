"""EfficientNetV2-B0 to B3, -S, -M, -L with progressive learning: Tan & Le 2021, arXiv 2104.00298.

  python -m jaxvision.main --config configs/efficientnetv2_b0.py --workdir runs/v2b0
  # also :b1 :b2 :b3 :s :m :l, s,digits, s,folder=PATH, tfds=NAME

Source: google/automl efficientnetv2 (the released code, which differs from the paper's Table 6). Published top-1, B0
to B3, S, M, L (README.md): 78.7, 79.8, 80.5, 82.1, 83.9, 85.2, 85.7; timm's evaluation of the ImageNet-1k weights
78.386, 79.518, 80.226, 81.960, 83.900, 85.208, 85.660.
Hardware: TPUs; 32 cores x 128 are assumed, their number is not published.

What follows the source: 1,256,144 training images (it leaves out the first 20 of its 1024 shards, this config as many
images at the start of tfds' order), TensorFlow's RMSProp, batch 4096, learning rate 0.256, multiplied by 0.97 every
2.4 epochs counted from the first step, with 5 epochs of warm-up, 350 epochs, weight decay 1e-5 on kernels,
stochastic depth 0.2, smoothing 0.1, EMA with decay 0.9999 and warm-up, which is what is reported, BN with epsilon
1e-3 and decay 0.9 (the paper: 0.99) over 8 of 32 TPU cores, so in 4 groups of 1024 images. Four stages of equal
length with rising image size. B: AutoAugment v0, crops and TF1's bicubic filter as EfficientNet. S, M, L: RandAugment
of rising magnitude, TF's crop sampling with areas from 5 %, TF2's bilinear filter, Mixup for one half of the batch and
CutMix for the other with rising alpha, a lambda for each example, and evaluation of the whole image squashed to a
square.
What differs: S, M, L are normalised with mean and standard deviation 127.5, in the source 128;
a length of 107,336.5 steps is rounded up, and the warm-up's to the nearest, both of which the source truncates.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.config import KERNELS_ONLY, base_config
from jaxvision.recipes import parse_argument, use_data

TRAIN_IMAGES = 1_256_144
# sizes of the stages, pixels of evaluation, dropout, magnitudes, alphas
MODELS = {
    "b0": ((144, 160, 176, 192), 224, 0.2, (), ()),
    "b1": ((144, 160, 176, 192), 240, 0.2, (), ()),
    "b2": ((148, 168, 188, 208), 260, 0.3, (), ()),
    "b3": ((156, 184, 212, 240), 300, 0.3, (), ()),
    "s": ((171, 214, 257, 300), 384, 0.2, (5.0, 20 / 3, 25 / 3, 10.0), ()),
    "m": ((192, 256, 320, 384), 480, 0.3, (5.0, 25 / 3, 35 / 3, 15.0), (0.0, 0.2 / 3, 0.4 / 3, 0.2)),
    "l": ((192, 256, 320, 384), 480, 0.4, (5.0, 10.0, 15.0, 20.0), (0.0, 0.5 / 3, 1 / 3, 0.5)),
}


def get_config(arg=""):
    variant, data = parse_argument(arg, list(MODELS), "efficientnetv2_b0")
    sizes, evaluated, dropout, magnitudes, alphas = MODELS[variant]
    c = base_config()
    c.batch_size = 4096
    c.epochs = 350.0
    c.data.train_split = f"train[{1_281_167 - TRAIN_IMAGES}:]"
    c.batch_norm = "per_device"
    c.replicas = 4
    c.model.name = f"tf_efficientnetv2_{variant}.in1k"  # the tag chooses mean and deviation
    c.model.image_size = sizes[-1]
    c.model.drop_rate = dropout
    c.model.drop_path_rate = 0.2
    c.model.bn_momentum = 0.1
    c.data.crop = "tf"
    c.data.dct_method = "fast"
    c.progressive.image_size = sizes
    if magnitudes:
        c.data.crop_area = (0.05, 1.0)
        c.data.crop_ratio = (0.75, 1.33)
        c.data.min_object_covered = 0.0
        c.data.resize = c.eval.interpolation = "tf_bilinear"
        c.eval.crop_mode = "squash"
        c.eval.crop_pct = 1.0
        c.augment.randaugment_layers = 2
        c.progressive.magnitude = magnitudes
        c.augment.mix_halves = True
        c.augment.mix_per_example = True
        c.augment.mix_symmetric = True
        c.progressive.mix = alphas
    else:
        c.augment.policy = "tf-v0"
        c.data.resize = c.eval.interpolation = "tf_bicubic"
        c.eval.crop_mode = "crop_first"
        c.eval.crop_pct = evaluated / (evaluated + 32)
    c.optimizer.name = "rmsprop_tf"
    c.optimizer.learning_rate = 0.256
    c.optimizer.eps = 1e-3
    c.optimizer.weight_decay = 1e-5
    c.optimizer.decay_rules = KERNELS_ONLY
    c.schedule.name = "exponential"
    c.schedule.warmup = "under"
    c.schedule.warmup_epochs = 5.0
    c.schedule.decay_epochs = 2.4
    c.schedule.decay_rate = 0.97
    c.loss.label_smoothing = 0.1
    c.eval.image_size = evaluated
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    return c
