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
from jaxvision.errors import UserError
from jaxvision.inference import fuse as folding
from jaxvision.inference.compile import Compiled
from jaxvision.models.images import check_images
from jaxvision.models.registry import ModelSpec, lookup, model_spec
from jaxvision.models.variables import Variables, classifier_names, init_variables
from jaxvision.weights import loading
from jaxvision.weights import state_dict as _weights
from jaxvision.weights.resize_tables import resized


class Model(flax.struct.PyTreeNode):
    """A network with its variables: jit it, differentiate it, put it on devices.

    Calls are in evaluation mode. The training loop uses ``module`` and ``variables``.

    Attributes:
      variables: ``{"params": ..., "batch_stats": ...}``, plain nested dicts of float32 arrays.
      module: the flax.linen module.
      spec: the constants published with the default weights.
      in_chans: channels of the input images.
      fused: whether :func:`jaxvision.fuse` folded the normalisation; such a model only infers.
    """

    variables: Variables
    module: nn.Module = flax.struct.field(pytree_node=False)
    spec: ModelSpec = flax.struct.field(pytree_node=False)
    in_chans: int = flax.struct.field(pytree_node=False)
    fused: bool = flax.struct.field(pytree_node=False, default=False)

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

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) for which the network is built; None where it takes any size."""
        return getattr(self.module, "image_size", None)

    def with_classifier(self, num_classes: int, *, key: jax.Array) -> Model:
        """The same network with a freshly initialised classifier for ``num_classes``."""
        module = self.module.clone(num_classes=num_classes)
        old, new = self.variables["params"], init_variables(module, key, self.in_chans)["params"]
        head = classifier_names(self.module, self.in_chans)
        params = {name: new[name] if name in head else leaf for name, leaf in old.items()}
        return self.replace(module=module, variables={**self.variables, "params": params})

    def with_image_size(self, size: int | tuple[int, int]) -> Model:
        """The same network for images of another size; convolutional ones, which take any, are returned as they are.

        A ViT's position table is resampled. A Swin's windows grow with the image and their
        bias tables are resampled; ``create_model(..., image_size=...)`` keeps them instead.
        Both as timm's ``set_input_size``.
        """
        if self.image_size is None:
            return self
        module, params = resized(self.module, self.variables["params"], _pair(size))
        return self.replace(module=module, variables={**self.variables, "params": params})

    def _checked(self, images: jax.Array) -> jax.Array:
        check_images(images, self.in_chans)
        return images


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(module: nn.Module, output: str, variables: Variables, images: jax.Array) -> Any:
    return module.apply(variables, images, train=False, output=output)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def build_module(
    name: str,
    *,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    dtype: Any = jnp.float32,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    bn_momentum: float | None = None,
    bn_groups: int = 1,
    remat: bool = False,
    layer_scale: float | None = None,
) -> nn.Module:
    """The flax.linen module of a model name.

    ``num_classes`` is by default that of the published weights, mostly 1000. ``bn_momentum`` is
    torch's convention (None: the model's own). ``image_size`` is for networks built for one
    size (None: the name's own); others take any. ``layer_scale`` is the initial value of DeiT-III's.
    """
    cls, arguments = lookup(name)
    if num_classes is None:
        num_classes = model_spec(name).num_classes
    if num_classes < 1:
        raise UserError(f"num_classes must be at least 1, got {num_classes}")
    own: dict[str, Any] = {} if bn_momentum is None else {"bn_momentum": bn_momentum}
    if image_size is not None and hasattr(cls, "image_size"):
        own["image_size"] = _pair(image_size)
    if layer_scale is not None:
        if arguments.get("layer_scale") is None:
            raise UserError(f"{name} has no layer scale that can be set")
        own["layer_scale"] = layer_scale
    return cls(
        **(arguments | own),
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
    image_size: int | tuple[int, int] | None = None,
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
      name: see :func:`jaxvision.list_models`; a weight tag behind a dot ("convnext_tiny.fb_in1k") selects
        whose constants ``spec`` holds.
      num_classes: classes of the head; by default those of ``weights``, or as published (mostly 1000).
      in_chans: channels of the input images.
      image_size: for networks built for one size, ViT and Swin: pixels of a side or (height, width),
        by default the name's own. As timm's ``img_size``: position tables are resampled, windows stay.
      dtype: compute dtype; parameters stay float32 and logits are float32.
      drop_rate, drop_path_rate: dropout before the classifier and stochastic depth, in training.
      bn_momentum: share of the batch in the running statistics (torch's convention).
      remat: recompute activations in the backward pass.
      key: where the random initialisation comes from; with ``weights`` only a classifier for another
        number of classes needs it.
      weights: file or state dict for :func:`jaxvision.load_weights`.

    Returns:
      A :class:`Model`.

    Raises:
      UserError: unknown name, neither ``key`` nor ``weights``, or weights that do not fit.

    Example::

      model = jaxvision.create_model("resnetrs50", key=jax.random.key(0))
      logits = model(images)
    """
    if key is None and weights is None:
        raise UserError(
            "create_model needs either key=jax.random.key(seed) for random weights, or weights=FILE for trained ones"
        )
    module = build_module(
        name,
        num_classes=num_classes,
        image_size=image_size,
        dtype=dtype,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        bn_momentum=bn_momentum,
        remat=remat,
    )
    state = None if weights is None else loading.read(module, weights)
    if state is not None and num_classes is None:
        module = module.clone(num_classes=loading.classes(module, in_chans, state) or module.num_classes)
    # With weights every leaf but perhaps the classifier's is replaced, and for that a key is asked for.
    variables = init_variables(module, jax.random.key(0) if key is None else key, in_chans)
    model = Model(variables=variables, module=module, spec=model_spec(name), in_chans=in_chans)
    if state is not None:
        filled = loading.fill(module, variables, in_chans, state, fresh_classifier=key is not None)
        model = model.replace(variables=filled)
    return jax.tree.map(jnp.asarray, model)


def load_weights(model: Model, source: str | Path | Mapping[str, Any]) -> Model:
    """The model with weights from a ``.safetensors`` or ``.pth`` file or a state dict.

    Names may be timm's, torchvision's or those of the papers' repositories, also with
    ``module.`` in front or wrapped in ``state_dict``, ``model`` or ``state_dict_ema``. A file
    for another number of classes leaves the model's classifier as it is; for another number
    of input channels the first convolution, for another image size the position tables are
    adapted as timm does. A ``UserWarning`` says each of these.

    Raises:
      UserError: in one message every missing or unknown key and wrong shape; or a file that is
        missing, damaged or holds pickled code (a ``.pth`` is opened with ``weights_only=True``).
    """
    if model.fused:
        raise UserError("a fused model takes no weights: load them first, then fuse")
    state = loading.read(model.module, source)
    filled = loading.fill(model.module, model.variables, model.in_chans, state, fresh_classifier=True)
    return model.replace(variables=filled)


def fuse(model: Model) -> Model:
    """The model for inference: batch normalisation folded into convolutions, weights stored in the compute dtype.

    Logits stay within rounding (1e-4 in float32); on GPU each convolution with its bias and
    ReLU becomes one kernel, and no weight is cast on a call. The result cannot be trained,
    exported or loaded into.
    """
    if model.fused:
        return model
    variables = folding.fuse(model.module, model.variables, model.in_chans)
    return model.replace(variables=variables, fused=True)


def compile(
    model: Model, *, compiler_options: Mapping[str, str | bool] | None = None, use_onednn: bool = True
) -> Compiled[Model]:
    """The fastest way to classify: the model fused, and compiled with the backend's best options.

    Like ``jax.jit``, it compiles once for each shape of images; what depends on the weights alone is computed then, and
    kept. Inside a program of your own, or differentiated, it is the fused model: give the outermost ``jax.jit``
    :func:`jaxvision.ops.program.compiler_options`. On a CPU call :func:`jaxvision.keep_memory` first.

    Args:
      model: as it was created or loaded.
      compiler_options: of ``jax.jit``, over the backend's. On a GPU ``{"xla_gpu_experimental_enable_conv_fusion":
        True}`` fuses SiLU into the convolutions of EfficientNets; XLA calls that experimental.
      use_onednn: on a CPU, let oneDNN compute float32 convolutions where this jaxlib contains it. Such a program
        compiles faster, but cannot be serialised, so JAX's persistent cache does not keep it.

    Example::

      classify = jaxvision.compile(model)
      logits = classify(images)
    """
    return Compiled(fuse(model), compiler_options=compiler_options or {}, use_onednn=use_onednn)


def to_torch(model: Model) -> dict[str, Any]:
    """The model's weights as numpy arrays under timm's names; loads strictly into timm."""
    if model.fused:
        raise UserError("a fused model has no normalisation to export: export the model before jaxvision.fuse")
    return _weights.to_torch(model.variables)


def to_nnx(model: Model) -> Any:
    """The model for NNX code: a ``flax.nnx`` module that holds the same variables.

    Call it as ``module(images, train=False)``; ``nnx.state(module)`` has the parameters.
    Goes through flax's own bridge, which needs the flax release that fits your jax.
    """
    from flax.nnx import bridge
    from flax.nnx.bridge.variables import linen_vars_to_nnx_attrs

    wrapped = bridge.ToNNX(model.module)
    for name, value in linen_vars_to_nnx_attrs(model.variables).items():
        setattr(wrapped, name, value)
    return wrapped
