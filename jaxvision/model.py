"""The face of the library: a model as one immutable pytree, called like a function."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jaxvision import models as _families  # noqa: F401  (fills the registry)
from jaxvision import weights as _weights
from jaxvision.errors import UserError
from jaxvision.models import initializers
from jaxvision.models.registry import ModelSpec, lookup, model_spec

Variables = dict[str, Any]


class Model(flax.struct.PyTreeNode):
    """A network with its variables: jit it, differentiate it, put it on devices.

    Calls are in evaluation mode. The training loop uses ``module`` and ``variables``.

    Attributes:
      variables: ``{"params": ..., "batch_stats": ...}``, plain nested dicts of float32 arrays.
      module: the flax.linen module.
      spec: the constants published with the default weights.
      in_chans: channels of the input images.
    """

    variables: Variables
    module: nn.Module = flax.struct.field(pytree_node=False)
    spec: ModelSpec = flax.struct.field(pytree_node=False)
    in_chans: int = flax.struct.field(pytree_node=False)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits (N, num_classes), float32, of normalised float images (N, H, W, C)."""
        return _apply(self.module, "logits", self.variables, self._checked(images))

    def features(self, images: jax.Array) -> list[jax.Array]:
        """The stages' output maps, each (N, H', W', C')."""
        return _apply(self.module, "features", self.variables, self._checked(images))

    def embed(self, images: jax.Array) -> jax.Array:
        """Pooled features before the classifier, (N, num_features)."""
        return _apply(self.module, "embed", self.variables, self._checked(images))

    @property
    def num_features(self) -> int:
        """Channels of :meth:`embed`."""
        return self.module.num_features

    @property
    def num_classes(self) -> int:
        """Classes of the classifier."""
        return self.module.num_classes

    def with_classifier(self, num_classes: int, *, key: jax.Array) -> Model:
        """The same network with a freshly initialised classifier for ``num_classes``."""
        module = self.module.clone(num_classes=num_classes)
        old, new = self.variables["params"], init_variables(module, key, self.in_chans)["params"]
        head = _classifier_names(self.module, old, self.in_chans)
        params = {name: new[name] if name in head else leaf for name, leaf in old.items()}
        return self.replace(module=module, variables={**self.variables, "params": params})

    def _checked(self, images: jax.Array) -> jax.Array:
        check_images(images, self.in_chans)
        return images


def check_images(images: jax.Array, channels: int) -> None:
    """Raises a ``UserError`` unless ``images`` is a float (N, H, W, channels) array."""
    problems = []
    if images.ndim != 4 or images.shape[-1] != channels:
        hint = " It looks like torch's NCHW: transpose it with images.transpose(0, 2, 3, 1)."
        torch_like = images.ndim == 4 and images.shape[1] == channels
        problems.append(
            f"expected images of shape (N, H, W, {channels}), got {tuple(images.shape)}.{hint if torch_like else ''}"
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        problems.append(
            f"expected normalised float images, got {images.dtype}: use (images / 255 - spec.mean) / spec.std."
        )
    if problems:
        raise UserError(" ".join(problems))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(module: nn.Module, output: str, variables: Variables, images: jax.Array) -> Any:
    return module.apply(variables, images, train=False, output=output)


def _classifier_names(module: nn.Module, params: Mapping[str, Any], in_chans: int) -> set[str]:
    """Top-level modules that exist for logits but not for embeddings."""
    image = jax.ShapeDtypeStruct((1, 64, 64, in_chans), jnp.float32)
    init = functools.partial(module.init, train=False, output="embed")
    body = jax.eval_shape(init, jax.random.key(0), image)["params"]
    return set(params) - set(body)


def init_variables(module: nn.Module, key: jax.Array, in_chans: int = 3, image_size: int = 64) -> Variables:
    """Fresh float32 variables of a module, as numpy arrays; see :mod:`jaxvision.models.initializers`."""
    image = jax.ShapeDtypeStruct((1, image_size, image_size, in_chans), jnp.float32)
    shapes = jax.eval_shape(functools.partial(module.init, train=False), key, image)
    params = initializers.draw(shapes["params"], key)
    stats = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (initializers.ones if path[-1].key == "running_var" else initializers.zeros)(
            None, leaf.shape
        ),
        shapes.get("batch_stats", {}),
    )
    return {"params": params, "batch_stats": stats}


def build_module(
    name: str,
    *,
    num_classes: int = 1000,
    dtype: Any = jnp.float32,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    bn_momentum: float | None = None,
    bn_groups: int = 1,
    remat: bool = False,
) -> nn.Module:
    """The flax.linen module of a model name; ``bn_momentum`` is torch's convention (None: the model's own)."""
    cls, arguments = lookup(name)
    if num_classes < 1:
        raise UserError(f"num_classes must be at least 1, got {num_classes}")
    own = {} if bn_momentum is None else {"bn_momentum": bn_momentum}
    return cls(
        **arguments,
        **own,
        num_classes=num_classes,
        dtype=dtype,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        bn_groups=bn_groups,
        remat=remat,
    )


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    dtype: Any = jnp.float32,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    bn_momentum: float | None = None,
    remat: bool = False,
    key: jax.Array | None = None,
    weights: str | Path | Mapping[str, Any] | None = None,
) -> Model:
    """Builds a model by timm name.

    Args:
      name: see :func:`jaxvision.list_models`.
      num_classes: classes of the head; 1000 by default.
      in_chans: channels of the input images.
      dtype: compute dtype; parameters stay float32 and logits are float32.
      drop_rate, drop_path_rate: dropout before the classifier and stochastic depth, in training.
      bn_momentum: share of the batch in the running statistics (torch's convention).
      remat: recompute activations in the backward pass.
      key: where the random initialisation comes from; required unless ``weights`` is given.
      weights: file or state dict for :func:`jaxvision.load_weights`.

    Returns:
      A :class:`Model`.

    Raises:
      UserError: unknown name, neither or both of ``key`` and ``weights``, or weights that do not fit.

    Example::

      model = jaxvision.create_model("resnetrs50", key=jax.random.key(0))
      logits = model(images)
    """
    if (key is None) == (weights is None):
        raise UserError(
            "create_model needs either key=jax.random.key(seed) for random weights, or weights=FILE, and not both"
        )
    module = build_module(
        name,
        num_classes=1000 if num_classes is None else num_classes,
        dtype=dtype,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        bn_momentum=bn_momentum,
        remat=remat,
    )
    # With weights every leaf is replaced, so the key is arbitrary there.
    variables = init_variables(module, jax.random.key(0) if key is None else key, in_chans)
    model = Model(variables=variables, module=module, spec=model_spec(name), in_chans=in_chans)
    if weights is not None:
        return load_weights(model, weights)
    return jax.tree.map(jnp.asarray, model)


def load_weights(model: Model, source: str | Path | Mapping[str, Any]) -> Model:
    """The model with weights from a ``.safetensors`` or ``.pth`` file or a state dict under timm's names.

    Strict: every key must be used and every parameter filled; all problems are in one error.
    A ``.pth`` is opened with ``weights_only=True``, so pickled code is refused.
    """
    state_dict = _weights.read_state_dict(source)
    return model.replace(variables=_weights.from_torch(state_dict, model.variables))


def to_torch(model: Model) -> dict[str, Any]:
    """The model's weights as numpy arrays under timm's names; loads strictly into timm."""
    return _weights.to_torch(model.variables)
