"""Progressive learning (Tan & Le 2021, EfficientNetV2, arXiv 2104.00298): a run in stages of rising difficulty."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxvision.config import Config


@dataclasses.dataclass(frozen=True)
class Stage:
    """Steps ``start`` to ``stop - 1`` of a run, and the config they are trained with."""

    start: int
    stop: int
    config: Config


def stages(config: Config, total: int) -> list[Stage]:
    """The run's stages, equally long; a single one where ``config.progressive`` is empty.

    A stage is a function of the step alone, so a run resumes inside it as anywhere. At its first step it takes its
    value of each field of ``config.progressive``, as automl's code does.
    """
    p = config.progressive
    fields = {
        "model.image_size": p.image_size,
        "augment.randaugment_magnitude": p.magnitude,
        "augment.mixup": p.mix,
        "augment.cutmix": p.mix,
        "model.drop_rate": p.drop_rate,
    }
    count = max(map(len, fields.values())) or 1
    found = []
    for i in range(count):
        changes: dict[str, dict[str, Any]] = {}
        for name, values in fields.items():
            if values:
                section, field = name.split(".")
                changes.setdefault(section, {})[field] = values[i]
        # Evaluation keeps the size of the whole run.
        changes["eval"] = {"image_size": config.eval.image_size or config.model.image_size}
        sections = {name: dataclasses.replace(getattr(config, name), **values) for name, values in changes.items()}
        found.append(Stage(total * i // count, total * (i + 1) // count, dataclasses.replace(config, **sections)))
    return found
