"""Augmentation of training batches on the device; see :mod:`jaxvision.augment.program` for its stages."""

from jaxvision.augment.config import AugmentConfig
from jaxvision.augment.mix import Mix
from jaxvision.augment.policies import HOST_POLICIES, HOST_UNIFORMS, POLICIES, make_policy
from jaxvision.augment.program import STAGES, make_augment, make_mix, make_normalise
from jaxvision.augment.stage import NetworkInput, Stage

__all__ = [
    "HOST_POLICIES",
    "HOST_UNIFORMS",
    "POLICIES",
    "STAGES",
    "AugmentConfig",
    "Mix",
    "NetworkInput",
    "Stage",
    "make_augment",
    "make_mix",
    "make_normalise",
    "make_policy",
]
