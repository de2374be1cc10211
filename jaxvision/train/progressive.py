"""Progressive learning (Tan & Le 2021, EfficientNetV2, arXiv 2104.00298): a run in parts of rising difficulty."""

from __future__ import annotations

import dataclasses

from jaxvision.config import Config


@dataclasses.dataclass(frozen=True)
class Stage:
    """Steps ``start`` to ``stop - 1`` of a run, and the config they are trained with."""

    start: int
    stop: int
    config: Config


def stages(config: Config, total: int) -> list[Stage]:
    """The run's equal parts; a single one where ``config.progressive`` is empty.

    A part is a function of the step alone, so a run resumes inside it as anywhere. Each changes
    what its field of ``config.progressive`` says at its first step, as automl's code does.
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
    parts = []
    for i in range(count):
        part = config.copy_and_resolve_references()
        # Evaluation keeps the size of the whole run.
        part.eval.image_size = config.eval.image_size or config.model.image_size
        for name, values in fields.items():
            if values:
                group, field = name.split(".")
                part[group][field] = type(config[group][field])(values[i])
        parts.append(Stage(total * i // count, total * (i + 1) // count, part))
    return parts
