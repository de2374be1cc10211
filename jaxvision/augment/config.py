"""The section ``config.augment``: what the device does to training images, each field stated once."""

from __future__ import annotations

import dataclasses

from jaxvision.augment.erasing import FILLS
from jaxvision.augment.mix import PAIRINGS
from jaxvision.augment.pillow_ops import INTERPOLATIONS
from jaxvision.augment.policies import policy_names
from jaxvision.options import option, ordered


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Flip, RandAugment or another policy, color, random erasing, Mixup and CutMix."""

    flip: bool = option(True, "mirror half of the images, left to right")
    randaugment_layers: int = option(
        0, "operations per image (N) of RandAugment as TensorFlow computes it; 0: no RandAugment", low=0, high=16
    )
    randaugment_magnitude: float = option(
        10.0,
        "strength (M) of that RandAugment, where 10 is full strength; larger values are allowed and not clamped",
        low=0,
        high=100,
    )
    translate_const: float = option(100.0, "pixels of that RandAugment's translation at M = 10", low=0, high=1000)
    cutout_const: float = option(
        40.0, "half the side, in pixels, of that RandAugment's cutout at M = 10", low=0, high=1000
    )
    policy: str = option(
        "",
        "augmentation policy (numbers are examples): "
        + "; ".join(f'"{name}": {meaning}' for name, meaning in {"": "none", **policy_names()}.items()),
    )
    interpolation: str = option(
        "bicubic",
        "interpolation of the policy's rotations, shears and translations (TensorFlow's and ResNeSt's have their own); "
        '"random": bilinear or bicubic, drawn for each image and operation, as timm',
        choices=(*INTERPOLATIONS, "random"),
    )
    color_jitter: float = option(
        0.0,
        "change brightness, contrast and saturation by up to this share, after the policy; 0: none",
        low=0,
        high=10,
    )
    mxnet_saturation: bool = option(
        False,
        "the color jitter's saturation blends with 0.114 of blue, an error of MXNet's code, not with the gray level",
    )
    lighting: float = option(
        0.0, "standard deviation of noise along the principal components of ImageNet's colors; 0: none", low=0, high=10
    )
    erase_prob: float = option(0.0, "probability of random erasing, after normalisation; 0: none", low=0, high=1)
    erase_area: tuple[float, float] = option(
        (0.02, 1 / 3), "smallest and largest share of the image that is erased", above=0, high=1, check=ordered
    )
    erase_aspect: tuple[float, float] = option(
        (0.3, 1 / 0.3), "smallest and largest height over width of an erased box", low=1e-3, high=1e3, check=ordered
    )
    erase_fill: str = option(
        "pixel",
        'what fills an erased box: "pixel": noise for every value; "channel": one random value per box and channel; '
        '"zero": the mean color',
        choices=FILLS,
    )
    erase_max_count: int = option(1, "the largest number of erased boxes per image", low=1, high=16)
    mixup: float = option(0.0, "alpha of Mixup's Beta(alpha, alpha); 0: no Mixup", low=0, high=1000)
    cutmix: float = option(0.0, "alpha of CutMix's Beta(alpha, alpha); 0: no CutMix", low=0, high=1000)
    mix_prob: float = option(1.0, "probability that Mixup or CutMix is applied", low=0, high=1)
    mix_switch: float = option(0.5, "probability of CutMix where both alphas are above 0", low=0, high=1)
    mix_pairing: str = option(
        "reverse",
        'an image\'s partner: "reverse": counted from the other end of the batch; "roll": the previous image',
        choices=PAIRINGS,
    )
    mix_per_example: bool = option(False, "draw lambda, box and choice for each example, not once for the batch")
    mix_symmetric: bool = option(False, "fold Mixup's lambda to max(lambda, 1 - lambda)")
    mix_halves: bool = option(False, "with both alphas above 0: Mixup for one half of the batch, CutMix for the other")
    mix_groups: str = option(
        "per_device",
        'where partners and draws come from: "per_device": each device\'s share of the batch (see replicas); "global": '
        "the whole batch",
        choices=("global", "per_device"),
    )
