"""The policies that ``config.augment.policy`` may name, in one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxvision.augment import resnest_policy, tensorflow_policies, timm_policies, torchvision_policies
from jaxvision.augment.stage import Stage
from jaxvision.augment.three_augment import three_augment
from jaxvision.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Policy:
    """A row of :data:`POLICIES`.

    Attributes:
      meaning: what it is, in a few words.
      make: ``make(text, mean, interpolation)``; see :func:`make_policy`.
      example: the name with arguments behind it, such as "rand-m9-mstd0.5-inc1"; empty where it takes none.
    """

    meaning: str
    make: Callable[[str, tuple[float, ...], str], Stage]
    example: str = ""


POLICIES: dict[str, Policy] = {
    "rand": Policy(
        "timm's RandAugment",
        lambda text, mean, interpolation: timm_policies.randaugment(text, mean=mean, interpolation=interpolation),
        example="rand-m9-mstd0.5-inc1",
    ),
    "original": Policy(
        "timm's AutoAugment with the paper's policy",
        lambda text, mean, interpolation: timm_policies.autoaugment(text, mean=mean, interpolation=interpolation),
    ),
    "v0": Policy(
        "timm's AutoAugment with EfficientNet's policy",
        lambda text, mean, interpolation: timm_policies.autoaugment(text, mean=mean, interpolation=interpolation),
    ),
    "resnest": Policy(
        "ResNeSt's AutoAugment",
        lambda text, mean, interpolation: resnest_policy.autoaugment(),
    ),
    "tf-v0": Policy(
        "TensorFlow's AutoAugment with EfficientNet's policy",
        lambda text, mean, interpolation: tensorflow_policies.autoaugment(),
    ),
    "trivial": Policy(
        "torchvision's TrivialAugmentWide",
        lambda text, mean, interpolation: torchvision_policies.trivialaugment_wide(interpolation=interpolation),
    ),
    "tv-ra": Policy(
        "torchvision's RandAugment",
        lambda text, mean, interpolation: torchvision_policies.randaugment(text, interpolation=interpolation),
        example="tv-ra-n2-m9",
    ),
    "tv-imagenet": Policy(
        "torchvision's AutoAugment",
        lambda text, mean, interpolation: torchvision_policies.autoaugment(interpolation=interpolation),
    ),
    "3a": Policy("3-Augment of DeiT-III", lambda text, mean, interpolation: three_augment()),
}


# Policies of the host, by their names in ``config.data.policy``: from a uint8 image of any size and its uniforms.
HOST_POLICIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "resnest": resnest_policy.autoaugment_on_host
}
HOST_UNIFORMS = 5  # random numbers of an image for any of them


def policy_names() -> dict[str, str]:
    """What to write for each policy, with its meaning; those with arguments by an example."""
    return {policy.example or name: policy.meaning for name, policy in POLICIES.items()}


def make_policy(text: str, *, mean: tuple[float, ...], interpolation: str) -> Stage:
    """The stage of a policy that a config names.

    Args:
      text: a name in :data:`POLICIES`; where that takes arguments, with them, as in "rand-m9-mstd0.5-inc1".
      mean: of the normalisation, for pixels in [0, 1]; timm's policies fill with this color.
      interpolation: of geometric operations, one of :data:`pillow_ops.INTERPOLATIONS` or "random"; see
        :func:`pillow_ops.layered`. TensorFlow's are always nearest neighbour, and ResNeSt's policy has its own.

    Raises:
      UserError: an unknown name or arguments that cannot be read.
    """
    for name, policy in POLICIES.items():
        if text == name or (policy.example and text.startswith(f"{name}-")):
            return policy.make(text, mean, interpolation)
    known = policy_names()
    raise UserError(
        f"augmentation policy {text!r}: expected one of {', '.join(known)} (the numbers are examples)."
        + did_you_mean(text, known)
    )
