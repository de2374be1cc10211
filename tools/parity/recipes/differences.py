"""Where a recipe is meant to differ from its source, and why: each reason once.

A test fails where one of these is no difference any more, and for each difference that is not here.
"""

from __future__ import annotations

import dataclasses
import fnmatch


@dataclasses.dataclass(frozen=True)
class Difference:
    """A field of some recipes, and the reason; recipes are patterns such as "resnet50_a?" or "deit_s:*"."""

    recipes: tuple[str, ...]
    field: str
    reason: str

    def covers(self, recipe: str, field: str) -> bool:
        """Whether it is about this recipe and field."""
        return field == self.field and any(fnmatch.fnmatchcase(recipe, pattern) for pattern in self.recipes)


DIFFERENCES = (
    Difference(
        (
            "convnext_t:*", "convnext_finetune:*", "swin_t:*", "deit_s:*", "deit3_s:*", "deit3_finetune:*",
            "resnet50_*", "resnet50d_a1", "seresnext50", "resnest50:*", "resnet_rs50:*",
        ),
        "steps",
        "an epoch's last, partial batch is not dropped: batches go on into the next epoch",
    ),
    Difference(
        ("swin_t:*",), "learning rate", "a step has the rate of its own number, there that of the step before"
    ),
    Difference(
        ("resnest50:*",),
        "learning rate",
        "steps count from 0 and the cosine ends with the run; MXNet counts updates from 1, and the script takes an "
        "epoch to be one batch longer than it is",
    ),
    Difference(
        ("efficientnet_b0:*", "efficientnetv2_b0:*"),
        "learning rate",
        "the length of the warm-up is rounded, there cut to whole steps, and a stair that ends within 1e-4 of a stair "
        "after a step ends with it",
    ),
    Difference(
        (
            "convnext_finetune:*", "swin_t:*", "resnet50_a?", "resnet50d_a1", "seresnext50", "resnest50:*", "vit_s16:*",
        ),
        "ema",
        "an EMA is tracked and reported beside the raw weights, which are the recipe's result",
    ),
    Difference(
        ("resnet50_tv2",),
        "ema",
        "every step by the same rate per step, from the start; there every 32 steps, after the warm-up",
    ),
    Difference(
        ("efficientnetv2_b0:[ml]",),
        "mixing",
        "a label of CutMix has the share of its own box; the source gives all labels the mean share of the half batch",
    ),
    Difference(
        ("resnet_rs50:*",), "evaluation crop", "0.875 itself; there the padding around the crop is a whole number"
    ),
)  # fmt: skip


def reason(recipe: str, field: str) -> str | None:
    """Why a recipe differs in a field; None where it does not."""
    return next((d.reason for d in DIFFERENCES if d.covers(recipe, field)), None)
