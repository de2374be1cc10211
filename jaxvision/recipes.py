"""What the recipes in configs/ share: their arguments, and the same recipe on small data."""

from __future__ import annotations

from collections.abc import Sequence

from jaxvision.config import Config
from jaxvision.errors import UserError, did_you_mean


def parse_argument(argument: str, models: Sequence[str], recipe: str) -> tuple[str, str]:
    """Splits a config's argument into model and data: "", "s", "digits", "s,digits", "s,folder=PATH".

    Args:
      argument: what stands behind the colon.
      models: the recipe's variants, the default first.
      recipe: its name, for messages.

    Returns:
      The variant, and "", "digits" or "folder=PATH".

    Raises:
      UserError: an unknown part.
    """
    model, data = models[0], ""
    for part in filter(None, argument.split(",")):
        if part in models:
            model = part
        elif part == "digits" or (part.startswith("folder=") and len(part) > 7):
            data = part
        else:
            known = [*models, "digits", "folder=PATH"]
            near = did_you_mean(part, known)
            raise UserError(f"unknown variant {part!r} of {recipe}.{near} Known: {', '.join(known)}")
    return model, data


def use_data(config: Config, data: str) -> None:
    """Points a recipe at other data than ImageNet; see :func:`parse_argument`.

    Both keep the recipe's model, optimizer, augmentation and loss. "digits" makes a run of minutes
    on a CPU of it: 32 px, batch 64, a few epochs, the learning rate scaled to the batch (by the
    root for AdamW and LAMB). "folder=PATH" has PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg.
    """
    if data.startswith("folder="):
        config.data.name = "folder"
        config.data.dir = data.removeprefix("folder=")
    elif data == "digits":
        share = 64 / config.batch_size
        factor = share**0.5 if config.optimizer.name in ("adamw", "lamb") else share
        config.optimizer.learning_rate = float(f"{config.optimizer.learning_rate * factor:.2g}")
        for field in ("start_learning_rate", "end_learning_rate"):
            config.schedule[field] = config.schedule[field] * factor
        config.schedule.warmup_epochs = 1.0
        config.batch_size = 64
        config.epochs = 8.0
        config.batch_norm = "global"
        config.model.image_size = 32
        config.data.name = "digits"
        config.data.eval_split = "test"
        config.data.crop_area = (0.6, 1.0)
        config.data.resize = "linear"
        config.data.repeats = 1
        config.augment.flip = False  # digits are not symmetric
        config.eval.image_size = 0
        config.eval.crop_pct = 1.0
        config.eval.every_epochs = 4.0
        config.ema.warmup = True  # as few steps as these are nothing to a constant decay
        config.log_every = 10
        config.checkpoint.every_steps = 50
