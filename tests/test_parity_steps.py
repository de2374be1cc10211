"""Ten whole steps of a recipe beside timm's model, optimizer, loss and average, one for each kind of optimizer and loss.

`make parity-steps` does it for every recipe with its own model.
"""

import pytest

from tools import parity_steps


@pytest.mark.parametrize("name", ["resnet50_a2", "resnet_rs50", "efficientnet_b0", "convnext_t", "deit3_s"])
def test_ten_steps_equal_timm(name):
    _, argument, model, size = next(row for row in parity_steps.RECIPES if row[0] == name)
    model = {"resnet_rs50": "resnet10t", "deit3_s": "deit3_small_patch16_224"}.get(name, model)
    row = parity_steps.compare(name, argument, model, 64 if "efficient" not in name else 40, narrow=False)
    assert row["equal"], row
