"""Ten whole steps of a recipe against timm's model, optimizer, loss and EMA, for three kinds of optimizer.

`make parity-steps` does it for every recipe with its own model.
"""

import pytest

from tools.parity import compare_steps


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model"), [
    ("resnet50_a2", "resnet10t"),  # LAMB, binary cross-entropy
    ("efficientnet_b0", "tf_efficientnet_b0"),  # TensorFlow's RMSProp, its decay scope, EMA with warm-up
    ("convnext_t", "convnext_atto"),  # AdamW, no batch normalisation
])  # fmt: skip
def test_ten_steps_equal_timm(name, model):
    row = compare_steps.compare(name, model, 40, narrow=False)
    assert row["equal"], row
