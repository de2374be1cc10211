"""ViT-S/16, the plain baseline of big_vision: Beyer et al. 2022, arXiv 2205.01580.

  python -m jaxvision.main --config configs/vit_s16.py --workdir runs/vit_s16
  # also :300, 300,digits, folder=PATH, tfds=NAME

Source: google-research/big_vision configs/vit_s16_i1k.py. Published top-1 at 224 px: 76.5 after 90 epochs (the
default; that file), 80.0 after 300 (the paper).
Hardware: 8 TPU v3 cores x 128.

What follows the source: train[:99%], Adam with a first moment in bfloat16, batch 1024, learning rate 1e-3, 10,000
steps of warm-up, cosine to 0, gradient norm at most 1, weight decay 1e-4 on kernels (the source multiplies it by the
schedule but not by the learning rate; this config has 0.1, which is multiplied by both), TF's crop sampling with areas
from 5 % and TF2's bilinear filter, RandAugment 2 x 10 as TensorFlow computes it, Mixup 0.2 with
max(lambda, 1 - lambda) and the previous image as partner, no label smoothing, stochastic depth or dropout, sine-cosine
positions, mean pooling, tanh layer, zero-initialised classifier, evaluation resized by area. The source has no EMA:
report top1, not ema_top1.
What differs: the partner of an image comes from the whole batch, in the source from the same device;
a run of 300 epochs, 371,588.4 steps, is rounded up, in the source to the nearest.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.config import KERNELS_ONLY, base_config
from jaxvision.recipes import parse_argument, use_data

EPOCHS = {"90": 90.0, "300": 300.0}
TRAIN_IMAGES = 1_268_355


def get_config(arg=""):
    variant, data = parse_argument(arg, list(EPOCHS), "vit_s16")
    c = base_config()
    c.batch_size = 1024
    c.replicas = 8
    c.epochs = EPOCHS[variant]
    c.model.name = "simple_vit_small_patch16_224"
    c.model.image_size = 224
    c.data.train_split = "train[:99%]"
    c.data.crop = "tf"
    c.data.dct_method = "fast"
    c.data.crop_area = (0.05, 1.0)
    c.data.crop_ratio = (0.75, 1.33)
    c.data.min_object_covered = 0.0
    c.data.resize = "tf_bilinear"
    c.augment.randaugment_layers = 2
    c.augment.randaugment_magnitude = 10.0
    c.augment.mixup = 0.2
    c.augment.mix_symmetric = True
    c.augment.mix_pairing = "roll"
    c.augment.mix_groups = "global"  # in the source all devices share one lambda; partners are of the same device
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.first_moment = "bfloat16"
    c.optimizer.clip_norm = 1.0
    c.optimizer.weight_decay = 0.1
    c.optimizer.decay_rules = KERNELS_ONLY
    c.schedule.warmup_epochs = 10_000 * c.batch_size / TRAIN_IMAGES
    c.eval.interpolation = "area"
    c.eval.crop_pct = 0.875
    c.checkpoint.every_steps = 1000
    use_data(c, data)
    return c
