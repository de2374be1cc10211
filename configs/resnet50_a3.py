"""ResNet-50 "strikes back" A3: Wightman et al. 2021, arXiv 2110.00476. 100 epochs at 160 px: the cheapest anchor.

  python -m jaxvision.main --config configs/resnet50_a3.py --workdir runs/a3  # also :digits, :folder=PATH

Published: 78.1 % top-1 at 224 px on 4 V100; timm's evaluation of its weights 78.052 (75.994 at 160 px).
Every value, what follows the paper and what is not settled: `strikes_back` in jaxvision/recipes.py.

Really run here: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.recipes import parse_argument, strikes_back, use_data


def get_config(arg=""):
    _, data = parse_argument(arg, [""], "resnet50_a3")
    c = strikes_back("a3", "resnet50")
    use_data(c, data)
    return c
