"""Intended differences between a recipe and its source, each with its reason.

A test fails for a difference that is not listed here, and for a listed one that does not exist any more.
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
            "resnet50_*", "resnet50d_a1", "seresnext50", "resnest50:*",
        ),
        "steps",
        "jaxvision does not drop the last, partial batch of an epoch; the batch continues in the next epoch",
    ),
    Difference(
        ("efficientnet_b0:*", "efficientnetv2_b0:*", "vit_s16:300"),
        "steps",
        "the epochs are no whole number of steps: jaxvision takes the last one, the source leaves it out",
    ),
    Difference(
        ("swin_t:*",), "learning rate", "jaxvision's step n has the schedule's value at n, the source's that at n - 1"
    ),
    Difference(
        ("resnest50:*",),
        "learning rate",
        "jaxvision counts steps from 0 and its cosine ends with the run; MXNet counts updates from 1, and the script "
        "assumes one batch more per epoch than there is",
    ),
    Difference(
        ("efficientnet_b0:*", "efficientnetv2_b0:*"),
        "learning rate",
        "jaxvision rounds the length of the warm-up to whole steps, the source truncates it; and where the rate drops "
        "less than 1e-4 of the decay's interval after a step, jaxvision drops it at that step",
    ),
    Difference(
        (
            "convnext_finetune:*", "swin_t:*", "resnet50_a?", "resnet50d_a1", "seresnext50", "resnest50:*", "vit_s16:*",
        ),
        "ema",
        "jaxvision also tracks and reports an EMA; the raw weights are the recipe's result",
    ),
    Difference(
        ("resnet50_tv2",),
        "ema",
        "with the same decay per step; jaxvision updates from the start, the source after the warm-up",
    ),
    Difference(
        ("efficientnetv2_b0:[ml]",),
        "mixing",
        "in jaxvision the weight of a CutMix label is the share of its own box; the source gives all labels the mean "
        "share over the half batch",
    ),
    Difference(
        ("resnet_rs50:*",), "evaluation crop", "the source rounds the padding around the crop to whole pixels"
    ),
)  # fmt: skip


def reason(recipe: str, field: str) -> str | None:
    """Why a recipe differs in a field; None where it does not."""
    return next((d.reason for d in DIFFERENCES if d.covers(recipe, field)), None)
