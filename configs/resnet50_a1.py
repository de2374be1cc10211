"""ResNet-50 "strikes back" A1: Wightman et al. 2021, arXiv 2110.00476. 600 epochs at 224 px.

  python -m jaxvision.main --config configs/resnet50_a1.py --workdir runs/a1  # also :digits, :folder=PATH

Published: 80.4 % top-1 at 224 px on 4 V100; timm's evaluation of its weights 80.382. Every value, what follows the
paper and what is not settled: `strikes_back` in jaxvision/recipes.py, which A2, A3 and ResNet-50-D share.

Really run here: `:digits` for a few steps in CI. No ImageNet run yet.
"""

from jaxvision.recipes import parse_argument, strikes_back, use_data


def get_config(arg=""):
    _, data = parse_argument(arg, [""], "resnet50_a1")
    c = strikes_back("a1", "resnet50")
    use_data(c, data)
    return c
