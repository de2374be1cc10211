"""ResNet-50 "strikes back" A3: Wightman et al. 2021, arXiv 2110.00476. 100 epochs at 160 px, the cheapest recipe here.

  python -m jaxvision.main --config configs/resnet50_a3.py --workdir runs/a3
  # also :soft, digits, folder=PATH, tfds=NAME

Published: 78.1 % top-1 at 224 px, timm's evaluation of its weights 78.052, at 160 px 75.994 (results-imagenet.csv).
Hardware: 4 V100, 512 images each. The source has no EMA: report top1, not ema_top1.

`strikes_back` in jaxvision/recipes.py has every value, what follows the paper and what is not settled. By default
targets of mixed images above 0.2 are set to 1 and others to 0; `:soft` leaves them as they are mixed.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.recipes import parse_argument, strikes_back, use_data

TARGETS = ["hard", "soft"]


def get_config(arg=""):
    targets, data = parse_argument(arg, TARGETS, "resnet50_a3")
    c = strikes_back("a3", "resnet50", targets)
    use_data(c, data)
    return c
