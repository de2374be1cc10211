"""The public model: a network and its variables in one immutable pytree that is called like a function."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from jaxvision.errors import UserError, counted
from jaxvision.inference import fuse as folding
from jaxvision.inference.compile import Compiled
from jaxvision.models.classifier import Classifier
from jaxvision.models.images import check_images
from jaxvision.models.registry import ModelSpec, check_classes, size_pair
from jaxvision.models.summary import summarise
from jaxvision.models.variables import (
    Variables,
    check_key,
    classifier_names,
    init_variables,
    shapes,
    unpooled_shape,
    with_new_classifier,
)
from jaxvision.timm_names import ATTRIBUTES
from jaxvision.weights import state_dict as _weights


class Model(flax.struct.PyTreeNode, eq=False):
    """A network and its variables, a pytree for ``jax.jit``, ``jax.vmap``, ``jax.device_put`` and the like.

    Calls compute in evaluation mode; :meth:`train` computes in training mode. Gradients are those of ``params``: see
    :func:`value_and_grad`. ``jax.jit(model)`` has the weights as constants inside the program, as ``jax.export`` needs
    them; pass the model as an argument where they change. A model equals itself only, and its hash is that of the
    object.

    Attributes:
      params: what is learned, nested dicts of float32 arrays.
      batch_stats: running means and variances of batch normalisation, nested dicts; empty where there is none.
      module: the network, a flax.linen module.
      spec: preprocessing, size, classes and accuracy published with the weights that the model was named after.
      in_chans: channels of the input images.
      fused: whether :func:`jaxvision.fuse` folded the batch normalisation, after which the model cannot be trained.
    """

    params: Variables
    batch_stats: Variables
    module: Classifier = flax.struct.field(pytree_node=False)
    spec: ModelSpec = flax.struct.field(pytree_node=False)
    in_chans: int = flax.struct.field(pytree_node=False)
    fused: bool = flax.struct.field(pytree_node=False, default=False)

    def __repr__(self) -> str:
        # One line: the arrays of a ResNet-50 would be 150,000 characters.
        size = "x".join(map(str, self.image_size)) if self.image_size else "any size"
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params)) / 1e6
        what = f"{count:.2f} M parameters, {self.num_classes} classes, {counted(self.in_chans, 'channel')} of {size}"
        return f"Model({self.spec.name}: {what}{', fused' if self.fused else ''})"

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits (N, num_classes), float32, of normalised float images (N, H, W, C)."""
        return self._apply("logits", images)

    def features(self, images: jax.Array, *, indices: int | Sequence[int] | None = None) -> list[jax.Array]:
        """The outputs of the stages, or of a ViT's blocks: a list of maps, each (N, H', W', C').

        Args:
          images: normalised float images (N, H, W, C).
          indices: which maps of :attr:`feature_info`, or how many of the last ones; by default all. The network is
            computed as far as these need.
        """
        return self._apply("features", images, None if indices is None else self._checked(indices))

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """What :meth:`features` returns, one entry for each map."""
        maps, height = self._of_one_image(Model.features), (self.image_size or (224, 224))[0]
        return [
            FeatureInfo(n, m.shape[-1], height // m.shape[1]) for n, m in zip(self.module.map_names, maps, strict=True)
        ]

    def forward_features(self, images: jax.Array) -> jax.Array:
        """What the network pools: the last map (N, H', W', C') or, of a ViT, all tokens (N, T, C')."""
        return self._apply("unpooled", images)

    def forward_head(self, features: jax.Array, pre_logits: bool = False) -> jax.Array:
        """Logits (N, num_classes) of what :meth:`forward_features` returned; the classifier's input with pre_logits."""
        shape = unpooled_shape(self.module, self.in_chans)
        given = getattr(features, "shape", type(features).__name__)
        if len(given) != len(shape) or given[-1] != shape[-1]:
            axes = "N, H', W'" if len(shape) == 4 else "N, T"
            raise UserError(
                f"forward_head takes what model.forward_features(images) returned, ({axes}, {shape[-1]}), got "
                f"{given}; for logits of images call model(images)"
            )
        output = "unpooled_to_embed" if pre_logits else "unpooled_to_logits"
        return _evaluate(self.module, output, None, self.params, self.batch_stats, features)

    def embed(self, images: jax.Array) -> jax.Array:
        """The classifier's input, (N, num_features): pooled features."""
        return self._apply("embed", images)

    def train(self, images: jax.Array, *, key: jax.Array) -> tuple[jax.Array, Model]:
        """Logits in training mode, and the model with the running statistics that follow from these images.

        Batch normalisation takes the statistics of the batch; dropout and stochastic depth have the rates that
        :func:`create_model` was given.

        Args:
          images: normalised float images (N, H, W, C).
          key: for dropout and stochastic depth; another one each step.

        Returns:
          Float32 logits (N, num_classes), and a model that differs in ``batch_stats`` alone.

        Raises:
          UserError: the model is fused, or the images do not fit.
        """
        if self.fused:
            raise UserError("a fused model cannot be trained: train the model before jaxvision.fuse")
        check_images(images, self.in_chans)
        check_key(key)
        return _train(self, images, key)

    @property
    def variables(self) -> Variables:
        """``{"params": ..., "batch_stats": ...}``, as ``module.apply`` takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    def with_variables(self, variables: Variables) -> Model:
        """The model with these ``{"params": ..., "batch_stats": ...}``."""
        return self.replace(params=variables["params"], batch_stats=variables["batch_stats"])

    @property
    def num_features(self) -> int:
        """Channels of :meth:`embed`."""
        return self.module.num_features

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.module.num_classes

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels that the network is built for; None where it takes any size."""
        return self.module.image_size

    def with_classifier(self, num_classes: int, *, key: jax.Array) -> Model:
        """The model with a freshly initialised classifier for ``num_classes`` classes."""
        check_key(key)
        check_classes(num_classes)
        module = self.module.clone(num_classes=num_classes)
        new = with_new_classifier(module, init_variables(module, key, self.in_chans)["params"], self.in_chans)
        head = classifier_names(self.module, self.in_chans)
        params = {name: new[name] if name in head else leaf for name, leaf in self.params.items()}
        return self.replace(module=module, params=params, spec=self.spec.of_other_classes(num_classes))

    def reset_classifier(self, num_classes: int, *, key: jax.Array) -> Model:
        """:meth:`with_classifier`, under timm's name for it. The model itself does not change."""
        return self.with_classifier(num_classes, key=key)

    def summary(self, images: tuple[int, ...] | None = None) -> str:
        """A table of the stages: outputs, parameters, and multiply-adds where XLA counts them.

        Args:
          images: shape (N, H, W, C); by default one image of the model's size.

        Raises:
          UserError: the network takes no such images.
        """
        shape = images or (1, *(self.image_size or (self.spec.input_size,) * 2), self.in_chans)
        if not isinstance(shape, tuple | list):
            raise UserError(f"summary takes the shape of images, (1, 224, 224, {self.in_chans}), got {shape!r}")
        check_images(jax.ShapeDtypeStruct(tuple(shape), jnp.float32), self.in_chans)
        return summarise(self.module, self.variables, tuple(shape), repr(self))

    if not TYPE_CHECKING:  # type checkers would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            # Called for names that are not there only.
            hint = f": {ATTRIBUTES[name]}" if name in ATTRIBUTES else ""
            raise AttributeError(f"a Model has no attribute {name!r}{hint}")

    def with_image_size(self, size: int | tuple[int, int]) -> Model:
        """The model for images of another size, in pixels of a side or (height, width), as timm's ``set_input_size``.

        Networks that take any size are returned unchanged. The position embedding of a ViT is resampled. The windows of
        a Swin grow with the image and their bias tables are resampled; with ``create_model(..., image_size=...)`` the
        windows keep their size instead.

        Raises:
          UserError: the network cannot have this size.
        """
        if self.image_size is None:
            return self
        shapes(
            self.module.clone(image_size=size_pair(size)), self.in_chans, "unpooled"
        )  # it states which sizes it takes
        module, params = self.module.with_image_size(self.params, size_pair(size))
        return self.replace(module=module, params=params)

    def _of_one_image(self, method: Callable[[Model, jax.Array], Any]) -> Any:
        """The shapes that a method returns for one image of the model's size, or of 224 pixels."""
        images = jax.ShapeDtypeStruct((1, *(self.image_size or (224, 224)), self.in_chans), jnp.float32)
        return jax.eval_shape(lambda model, images: method(model, images), self, images)

    def _checked(self, indices: int | Sequence[int]) -> tuple[int, ...]:
        """Indices of maps, of these or of so many of the last ones."""
        count = len(self.module.map_names)
        try:
            wanted = tuple(range(-indices, 0) if isinstance(indices, int) else map(operator.index, indices))
        except TypeError:
            wanted = ()
        wrong = [i for i in wanted if not -count <= i < count]
        if wrong or not wanted:
            raise UserError(
                f"indices {wrong or indices}: {self.spec.name} has the maps 0 to {count - 1}, see model.feature_info; "
                "pass some of them, (0, -1), or how many of the last"
            )
        return wanted

    def _apply(self, output: str, images: jax.Array, indices: tuple[int, ...] | None = None) -> Any:
        check_images(images, self.in_chans)
        return _evaluate(self.module, output, indices, self.params, self.batch_stats, images)


class FeatureInfo(NamedTuple):
    """A map of :meth:`Model.features`, described in timm's words.

    Attributes:
      module: the layer whose output it is.
      num_chs: channels.
      reduction: stride: pixels of the image for one of the map.
    """

    module: str
    num_chs: int
    reduction: int


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _evaluate(
    module: Classifier,
    output: str,
    indices: tuple[int, ...] | None,
    params: Variables,
    batch_stats: Variables,
    images: jax.Array,
) -> Any:
    variables = {"params": params, "batch_stats": _constant(batch_stats)}
    result = module.apply(variables, images, train=False, output=output)
    return result if indices is None else [result[i] for i in indices]


@jax.jit
def _train(model: Model, images: jax.Array, key: jax.Array) -> tuple[jax.Array, Model]:
    dropout, drop_path = jax.random.split(key)
    logits, updated = model.module.apply(
        {"params": model.params, "batch_stats": _constant(model.batch_stats)},
        images,
        train=True,
        rngs={"dropout": dropout, "drop_path": drop_path},
        mutable=["batch_stats"],
    )
    return logits, model.replace(batch_stats=updated.get("batch_stats", {}))


@jax.custom_jvp
def _constant(batch_stats: Variables) -> Variables:
    """The statistics themselves; an optimizer that moved them along a gradient would destroy the network silently."""
    return batch_stats


@_constant.defjvp
def _refuse(primals: Any, tangents: Any) -> Any:
    raise UserError(
        "the statistics of batch normalisation are not learned, but this gradient is of a whole Model: write "
        "jaxvision.value_and_grad(loss)(model), or differentiate with respect to model.params"
    )


def value_and_grad(loss: Callable[..., Any], *, has_aux: bool = False) -> Callable[..., Any]:
    """``jax.value_and_grad`` of a function of a model, with respect to the model's parameters.

    Args:
      loss: of a :class:`Model` and other arguments; returns a scalar, or a scalar and something else with ``has_aux``.
      has_aux: as in ``jax.value_and_grad``.

    Returns:
      A function with the arguments of ``loss``. It returns the value and the gradients, nested dicts like
      ``model.params``, for an optax optimizer that was initialised with ``model.params``.

    Example::

      def loss(model, images, labels, key):
          logits, model = model.train(images, key=key)
          return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), model

      (value, model), gradients = jaxvision.value_and_grad(loss, has_aux=True)(model, images, labels, key)
    """

    @functools.wraps(loss)
    def differentiated(model: Model, *args: Any, **kwargs: Any) -> Any:
        _check_model(model)

        def of_params(params: Variables) -> Any:
            return loss(model.replace(params=params), *args, **kwargs)

        return jax.value_and_grad(of_params, has_aux=has_aux)(model.params)

    return differentiated


def _check_model(model: Any) -> None:
    if not isinstance(model, Model):
        raise UserError(f"expected a Model, as jaxvision.create_model returns, got a {type(model).__name__}")


def fuse(model: Model) -> Model:
    """The model for inference: batch normalisation folded into convolutions, weights stored in the compute dtype.

    Logits stay within rounding (1e-4 in float32); on GPU each convolution with its bias and
    ReLU becomes one kernel, and no weight is cast on a call. The result cannot be trained,
    exported or loaded into.
    """
    _check_model(model)
    if model.fused:
        return model
    variables = folding.fuse(model.module, model.variables, model.in_chans)
    return model.with_variables(variables).replace(fused=True)


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
        compiles faster, but cannot be serialised, so JAX's persistent cache does not keep it; False where a program is
        to be serialised, or sharded among devices.

    Example::

      classify = jaxvision.compile(model)
      logits = classify(images)
    """
    return Compiled(fuse(model), compiler_options=compiler_options or {}, use_onednn=use_onednn)


def to_torch(model: Model) -> dict[str, Any]:
    """The weights as float32 numpy arrays under timm's names; timm's model loads them with ``strict=True``.

    Raises:
      UserError: a fused model.
    """
    _check_model(model)
    if model.fused:
        raise UserError("a fused model has no normalisation to export: export the model before jaxvision.fuse")
    return _weights.to_torch(model.variables)


def to_nnx(model: Model) -> Any:
    """The model as a ``flax.nnx`` module that holds the same variables, through flax's own bridge.

    ``nnx.state(module)`` has the parameters. The bridge needs the release of flax that fits the installed jax.

    Example::

      module = jaxvision.to_nnx(model)
      logits = module(images, train=False)
      # In training; the module's running statistics are updated in place.
      logits = module(images, train=True, mutable=["batch_stats"], rngs=nnx.Rngs(key))
    """
    from flax.nnx import bridge
    from flax.nnx.bridge.variables import linen_vars_to_nnx_attrs

    _check_model(model)
    wrapped = bridge.ToNNX(model.module)
    for name, value in linen_vars_to_nnx_attrs(model.variables).items():
        setattr(wrapped, name, value)
    return wrapped
