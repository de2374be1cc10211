"""ResNet-50 "strikes back" A1: Wightman et al. 2021, arXiv 2110.00476. 600 epochs at 224 px.

  python -m jaxvision.main --config configs/resnet50_a1.py --workdir runs/a1
  # also :hard, digits, folder=PATH, tfds=NAME

Published: 80.4 % top-1 at 224 px (the paper's abstract), timm's evaluation of its weights 80.382
(results-imagenet.csv). Hardware: 4 V100, 512 images each. The source has no EMA: report top1, not ema_top1.

`strikes_back` in jaxvision/recipes.py has every value, what follows the paper and what is not settled. `:hard` sets
targets of mixed images above 0.2 to 1, as A2 and A3 do, which undoes the label smoothing.

Run so far: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.recipes import parse_argument, strikes_back, use_data

TARGETS = ["soft", "hard"]


def get_config(arg=""):
    targets, data = parse_argument(arg, TARGETS, "resnet50_a1")
    c = strikes_back("a1", "resnet50", targets)
    use_data(c, data)
    return c
