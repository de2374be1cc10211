"""Distillation (Touvron et al. 2020, DeiT, arXiv 2012.12877): a trained teacher for the student."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.config import Config
from jaxvision.errors import UserError
from jaxvision.models.registry import ModelSpec, build_module, model_spec
from jaxvision.models.variables import init_variables
from jaxvision.optim import losses
from jaxvision.run.weights import weights_source
from jaxvision.train.workdir import run_class_differences
from jaxvision.weights import loading

# (base losses, student's logits, images, teacher's variables) to losses, all per example.
DistillFn = Callable[[jax.Array, jax.Array, jax.Array, Any], jax.Array]


@dataclasses.dataclass(frozen=True)
class Teacher:
    """What the train step needs of a teacher.

    Attributes:
      variables: of its network; an argument of the step, so that they are not constants of its program.
      loss: ``(1 - alpha) base + alpha distillation``.
    """

    variables: Any
    loss: DistillFn


def load_teacher(
    config: Config, student: ModelSpec, num_classes: int, dtype: Any, class_names: Sequence[str] | None = None
) -> Teacher | None:
    """The teacher a config names, None where it names none.

    It sees the student's (mixed) images, normalised its own way, in evaluation mode.

    Raises:
      UserError: weights that do not fit, or of other classes than ``class_names``, those of the data.
    """
    t = config.teacher
    if not t.name:
        return None
    if class_names is not None and (differ := run_class_differences(t.weights, class_names)):
        raise UserError(f"the teacher {t.name} of {t.weights} was trained for {differ}")
    module = build_module(t.name, num_classes=num_classes, image_size=config.model.image_size, dtype=dtype)
    spec = model_spec(t.name)
    state = loading.read(module, weights_source(t.weights, spec))
    classes = loading.classes(module, 3, state)
    if classes not in (None, num_classes):
        raise UserError(f"the teacher {t.name} of {t.weights} has {classes} classes, the data {num_classes}")
    variables = init_variables(module, jax.random.key(0))
    variables = loading.fill(module, variables, 3, state, fresh_classifier=False)
    scale = tuple(a / b for a, b in zip(student.std, spec.std, strict=True))
    shift = tuple((a - b) / c for a, b, c in zip(student.mean, spec.mean, spec.std, strict=True))
    own = student.mean == spec.mean and student.std == spec.std

    def loss(base: jax.Array, logits: jax.Array, images: jax.Array, variables: Any) -> jax.Array:
        seen = images if own else (images * jnp.array(scale) + jnp.array(shift)).astype(images.dtype)
        taught = module.apply(variables, jax.lax.stop_gradient(seen), train=False)
        other = losses.distillation(t, logits, taught)
        return (1 - t.alpha) * base + t.alpha * other

    return Teacher(variables, loss)
