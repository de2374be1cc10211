"""ResNet-50-D with the A1 recipe of "ResNet strikes back": Wightman et al. 2021, arXiv 2110.00476.

  python -m jaxvision.main --config configs/resnet50d_a1.py --workdir runs/50d  # also :digits, :folder=PATH

Published: timm's evaluation of its weights gives 80.730 % top-1 at 224 px, 81.466 at 288. Every value, what follows
the paper and what is not settled: `strikes_back` in jaxvision/recipes.py.

Really run here: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.recipes import parse_argument, strikes_back, use_data


def get_config(arg=""):
    _, data = parse_argument(arg, [""], "resnet50d_a1")
    c = strikes_back("a1", "resnet50d")
    use_data(c, data)
    return c
