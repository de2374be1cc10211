"""ResNet-50-D with the A1 recipe of "ResNet strikes back": Wightman et al. 2021, arXiv 2110.00476. 600 epochs.

  python -m jaxvision.main --config configs/resnet50d_a1.py --workdir runs/50d
  # also :hard, digits, folder=PATH, tfds=NAME

Published: timm's evaluation of its weights gives 80.730 % top-1 at 224 px, 81.466 at 288 (results-imagenet.csv); the
values are those of A1 for ResNet-50. Hardware: 4 V100, 512 images each, as A1. The source has no EMA: report top1, not
ema_top1.

`strikes_back` in jaxvision/recipes.py has every value, what follows the paper and what is not settled. `:hard` sets
targets of mixed images above 0.2 to 1, as A2 and A3 do, which undoes the label smoothing.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.recipes import parse_argument, strikes_back, use_data

TARGETS = ["soft", "hard"]


def get_config(arg=""):
    targets, data = parse_argument(arg, TARGETS, "resnet50d_a1")
    c = strikes_back("a1", "resnet50d", targets)
    use_data(c, data)
    return c
