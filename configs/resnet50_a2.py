"""ResNet-50 "strikes back" A2: Wightman et al. 2021, arXiv 2110.00476. 300 epochs at 224 px.

  python -m jaxvision.main --config configs/resnet50_a2.py --workdir runs/a2  # also :digits, :folder=PATH

Published: 79.8 % top-1 at 224 px on 4 V100 (79.72 +- 0.1 over 100 seeds); timm's evaluation of its weights 79.828.
Every value, what follows the paper and what is not settled: `strikes_back` in jaxvision/recipes.py.

Really run here: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.recipes import parse_argument, strikes_back, use_data


def get_config(arg=""):
    _, data = parse_argument(arg, [""], "resnet50_a2")
    c = strikes_back("a2", "resnet50")
    use_data(c, data)
    return c
