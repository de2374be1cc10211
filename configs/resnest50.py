"""ResNeSt-50, -101, -200, -269: Zhang et al. 2020, arXiv 2004.08955.

  python -m jaxvision.main --config configs/resnest50.py --workdir runs/resnest50
  # also :101 :200 :269, 101,digits, 101,folder=PATH, tfds=NAME

Source: zhanghang1989/ResNeSt scripts/gluon/train.py, resnest/gluon (the runs behind the weights). Published top-1
(README.md, Gluon's weights): 81.04 at 224 px, 82.81 at 256, 83.88 at 320, 84.53 at 416; converted to PyTorch 81.03,
82.83, 83.84, 84.54, and timm's evaluation of these 80.958, 82.916, 83.880, 84.542.
Hardware: 64 GPUs x 128 for 50 (scripts/gluon/README.md). For the others the repository has no commands: their batches,
4096 / 2048 / 2048, are the paper's, and 64 GPUs are assumed.

What follows the source: Nesterov SGD, batch 8192 for 50, learning rate 0.1 per 256 images, 270 epochs, cosine after 5
epochs of warm-up, weight decay 1e-4 on kernels, smoothing 0.1, Mixup 0.2 within each GPU's batch, ResNeSt's own
AutoAugment on the whole image before the crop, color jitter 0.4, lighting 0.1, DropBlock as in its code: three per
block of the last two stages, masks shared by all images of a GPU, and a rate that rises with each epoch to 0.1; last
scale of a block 0, dropout 0.2 in 200 and 269, BN per device. 50 and 101: torchvision's crop, MXNet's bilinear filter
without antialiasing, and its saturation, which blends with blue. 200 and 269: EfficientNet's crop of at least 10 % of
the area, Pillow's bicubic, evaluation crop size / (size + 32). The source has no EMA: report top1, not ema_top1.
What differs: convolutions and classifier are initialised as in timm (He's by fan-out; uniform), in the source by
fan-in; the last, partial batch of a GPU's epoch, which the source drops, is used.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

import math

from jaxvision.config import base_config
from jaxvision.recipes import parse_argument, use_data

# model, pixels, batch, dropout
MODELS = {
    "50": ("resnest50d", 224, 8192, 0.0),
    "101": ("resnest101e", 256, 4096, 0.0),
    "200": ("resnest200e", 320, 2048, 0.2),
    "269": ("resnest269e", 416, 2048, 0.2),
}


def get_config(arg=""):
    variant, data = parse_argument(arg, list(MODELS), "resnest50")
    c = base_config()
    c.model.name, c.model.image_size, c.batch_size, c.model.drop_rate = MODELS[variant]
    c.epochs = 270.0
    c.batch_norm = "per_device"
    c.replicas = 64
    c.model.drop_block_rate = 0.1
    c.model.drop_block = "resnest"
    if c.model.image_size < 320:
        c.augment.mxnet_saturation = True
        c.data.resize = c.eval.interpolation = "linear"
        c.eval.crop_pct = c.model.image_size / math.ceil(c.model.image_size / 0.875)  # 224 / 256, 256 / 293
    else:
        c.data.crop = "tf"
        c.data.crop_area = (0.1, 1.0)
        c.data.resize = c.eval.interpolation = "bicubic"
        c.eval.crop_mode = "crop_first"
        c.eval.crop_pct = c.model.image_size / (c.model.image_size + 32)
    c.data.policy = "resnest"
    c.augment.color_jitter = 0.4
    c.augment.lighting = 0.1
    c.augment.mixup = 0.2
    c.optimizer.name = "sgd"
    c.optimizer.nesterov = True
    c.optimizer.learning_rate = 0.1 * c.batch_size / 256
    c.optimizer.weight_decay = 1e-4
    c.schedule.warmup_epochs = 5.0
    c.loss.label_smoothing = 0.1
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    return c
