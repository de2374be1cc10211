"""ResNet-50 IMAGENET1K_V2: torchvision's "new recipe with FixRes".

  python -m jaxvision.main --config configs/resnet50_tv2.py         # also :digits, :folder=PATH, :tfds=NAME

Source: pytorch/vision issue 3995 and PR 6433, references/classification. Published: 80.858 % top-1 of the EMA weights
(train 176, test 224 px; torchvision's ResNet50_Weights); timm's evaluation 80.846.
Hardware: 8 GPUs x 128.

What follows the source: SGD with momentum 0.9, not Nesterov's, batch 1024, learning rate 0.5, 600 epochs, 5 of them
warm-up from 0.01 of that rate, then a cosine, both set per epoch, weight decay 2e-5 on everything but norms (biases
are decayed), smoothing 0.1, Pillow's bilinear filter, TrivialAugmentWide (bilinear, black fill), random erasing 0.1
with the mean color, Mixup 0.2 and CutMix 1.0, one of them per batch with the previous image as partner, four repeated
augmentations, evaluation of the EMA. The last BN scale of a block starts at 1.
What differs: the source's EMA is updated every 32 steps, with a decay of 1 - 0.00109, and copies the raw weights during
the warm-up; here it is updated every step from the start, with the same decay per step (0.999966);
the last, partial batch of an epoch, which the source drops, is used.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.config import base_config
from jaxvision.recipes import decay_all_but, parse_argument, use_data

NORMS = r".*(bn\d|downsample\.1|maxpool\.1|conv1\.[14]|downsample\.2)\.(weight|bias):1d"


def get_config(arg=""):
    _, data = parse_argument(arg, [""], "resnet50_tv2")
    c = base_config()
    c.batch_size = 1024
    c.epochs = 600.0
    c.batch_norm = "per_device"
    c.replicas = 8
    c.model.name = "resnet50"
    c.model.zero_last_scale = False
    c.model.image_size = 176
    c.data.resize = "bilinear"
    c.data.repeats = 4
    c.augment.policy = "trivial"
    c.augment.interpolation = "bilinear"
    c.augment.erase_prob = 0.1
    c.augment.erase_area = (0.02, 0.33)
    c.augment.erase_aspect = (0.3, 3.3)
    c.augment.erase_fill = "zero"
    c.augment.mixup = 0.2
    c.augment.cutmix = 1.0
    c.augment.mix_pairing = "roll"
    c.optimizer.name = "sgd"
    c.optimizer.nesterov = False
    c.optimizer.learning_rate = 0.5
    c.optimizer.weight_decay = 2e-5
    c.optimizer.decay_rules = decay_all_but(NORMS)
    c.schedule.warmup_epochs = 5.0
    c.schedule.per_epoch = True
    c.schedule.start_learning_rate = 0.005
    c.loss.label_smoothing = 0.1
    c.ema.decay = 0.999966
    c.ema.warmup = False
    c.eval.image_size = 224
    c.eval.crop_pct = 224 / 232
    c.eval.interpolation = "bilinear"
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    return c
