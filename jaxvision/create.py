"""Models from names, and weights into models."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp

from jaxvision import models as _families  # noqa: F401  (fills the registry)
from jaxvision.errors import UserError
from jaxvision.model import Model
from jaxvision.models.registry import build_module, model_spec
from jaxvision.models.variables import check_key, init_variables, with_new_classifier
from jaxvision.timm_names import ARGUMENTS
from jaxvision.weights import loading, published
from jaxvision.weights.hub import HubAccess

Weights = str | Path | Mapping[str, Any]
"""A file, a name as in :mod:`jaxvision.weights.published`, or a state dict."""


P = ParamSpec("P")


def _hint_at_timms_arguments(function: Callable[P, Model]) -> Callable[P, Model]:
    """Says what to write instead of an argument that only timm has."""

    @functools.wraps(function)
    def hinting(*args: P.args, **kwargs: P.kwargs) -> Model:
        if problems := [f"{name}: write {ARGUMENTS[name]}" for name in kwargs if name in ARGUMENTS]:
            raise UserError("arguments of timm that create_model does not have: " + "; ".join(problems))
        return function(*args, **kwargs)

    return hinting


@_hint_at_timms_arguments
def create_model(
    name: str,
    pretrained: bool | None = None,
    *,
    weights: Weights | None = None,
    key: jax.Array | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    dtype: Any = jnp.float32,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    drop_path_rule: str | None = None,
    bn_momentum: float | None = None,
    remat: bool = False,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
) -> Model:
    """Builds a model, with published, given or random weights.

    Args:
      name: timm's, one of :func:`jaxvision.list_models`. A tag after a dot, "convnext_tiny.fb_in1k", selects the
        weights that ``Model.spec`` describes and ``pretrained`` loads. Or a repository or a folder, whose weights are
        loaded: "hf-hub:timm/resnet50.a1_in1k", "hf-hub:OWNER/NAME@REVISION", "local-dir:PATH".
      pretrained: whether to load the published weights, which are downloaded once from timm's repositories on the
        Hugging Face hub; by default for repositories and folders only. False builds the network that a repository or a
        folder describes, and downloads no weights.
      weights: a file, a state dict, or weights by name, see :func:`jaxvision.load_weights`.
      key: for the random initialisation. With weights only a classifier for another number of classes needs it.
      num_classes: number of classes; by default that of the weights, or else as published, mostly 1000.
      in_chans: channels of the input images; by default those of a repository or folder, or else 3.
      image_size: pixels of a side, or (height, width), for networks built for one size (ViT and Swin); by default the
        model's own. Position tables of weights are resampled, and windows keep their size, as with timm's ``img_size``.
        Networks that take any size ignore it.
      dtype: of the computation. Parameters and logits are float32.
      drop_rate: probability of dropout before the classifier, in training.
      drop_path_rate: stochastic depth in training: the largest probability with which a sample skips a block.
      drop_path_rule: how a block's probability follows from it, "linear", "open_linear", "stage" or "constant", see
        :mod:`jaxvision.models.stochastic_depth`; by default the model's own.
      bn_momentum: the batch's share in the running statistics of batch normalisation, torch's convention; by default
        the model's own.
      remat: recompute activations in the backward pass, to save memory.
      revision: of downloads, see :class:`jaxvision.weights.hub.HubAccess`; without weights of the hub it is refused.
      cache_dir: of downloads.
      token: of downloads.

    Returns:
      A :class:`Model`.

    Raises:
      UserError: an unknown name, values that make no sense, neither weights nor ``key``, weights that cannot be fetched
        or do not fit.

    Example::

      model = jaxvision.create_model("convnext_tiny.fb_in1k", pretrained=True)
      logits = model(jaxvision.preprocess(model)("cat.jpg"))
    """
    if isinstance(pretrained, str):
        raise UserError(f'pretrained = {pretrained!r}: write the tag in the name, "{name}.TAG", and pretrained=True')
    access = HubAccess(revision=revision, cache_dir=cache_dir, token=token)
    by_name = published.is_source(name)
    if not by_name:
        model_spec(name)  # first of all, whether there is such a model
    pretrained = by_name if pretrained is None else pretrained
    if weights is not None and (pretrained or by_name):
        raise UserError(f"{name} with {'pretrained=True' if pretrained else 'weights'}: pass one kind of weights only")
    if key is None and weights is None and not pretrained:
        raise UserError(
            "create_model needs weights: pass pretrained=True for published ones, weights=FILE for others, or "
            "key=jax.random.key(seed) for random ones"
        )
    if key is not None:
        check_key(key)
    if in_chans is not None and in_chans < 1:
        raise UserError(f"in_chans = {in_chans}: pass the number of channels of the images, 3 for RGB")
    found: published.Published | None = None
    if by_name or pretrained:
        found = published.find(name, access, weights=pretrained)
        weights = found.file
    elif isinstance(weights, str) and published.is_name(weights):
        found = published.find(weights, access)
        published.check_architecture(found.spec, model_spec(name).name, weights)
        weights = found.file
    spec = model_spec(name) if found is None else found.spec
    if found is not None and image_size is None:
        image_size = spec.input_size
    in_chans = in_chans or (3 if found is None else found.in_chans)
    module = build_module(
        spec.name,
        num_classes=spec.num_classes if num_classes is None else num_classes,
        image_size=image_size,
        dtype=dtype,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
        drop_path_rule=drop_path_rule,
        bn_momentum=bn_momentum,
        remat=remat,
    )
    state = None if weights is None else loading.read(module, weights)
    if found is None:
        published.refuse_revision(access)
    if state is not None and num_classes is None:
        module = module.clone(num_classes=loading.classes(module, in_chans, state) or module.num_classes)
        if found is not None:
            published.check_classes(found, module.num_classes)
    # Weights replace these values; a classifier that they cannot fill is kept only where the caller gave a key.
    variables = init_variables(module, jax.random.key(0) if key is None else key, in_chans)
    if state is not None:
        variables["params"] = with_new_classifier(module, variables["params"], in_chans)
    if module.num_classes != spec.num_classes:
        spec = spec.of_other_classes(module.num_classes)
    model = Model(**variables, module=module, spec=spec, in_chans=in_chans)
    if state is not None:
        filled = loading.fill(module, variables, in_chans, state, fresh_classifier=key is not None)
        model = model.with_variables(filled)
    return jax.tree.map(jnp.asarray, model)


def load_weights(
    model: Model,
    source: Weights,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
) -> Model:
    """The model with the weights of a file, a state dict, a repository of the hub or a folder.

    Parameter names may be timm's, torchvision's or those of the papers' repositories, at the top or under the keys and
    prefixes that common trainers add, such as ``state_dict_ema``, ``model_state_dict``, ``module.`` or ``model.``.

    Four things may differ from the model, and a ``UserWarning`` names each: with another number of classes the model
    keeps its classifier; with another number of input channels the first convolution is adapted, and with another image
    size the position tables are resampled, both as in timm; another epsilon of batch normalisation is compensated in
    its running variance.

    Args:
      model: not fused.
      source: a ``.safetensors`` or ``.pth`` file; a mapping from names to arrays or torch tensors; or weights by name,
        such as "resnet50.a1_in1k", "hf-hub:OWNER/NAME" or "local-dir:PATH", which bring their ``Model.spec`` with them.
      revision: of downloads, see :class:`jaxvision.weights.hub.HubAccess`.
      cache_dir: of downloads.
      token: of downloads.

    Raises:
      UserError: every missing or unknown key, wrong shape and value that is not finite, in one message; a file that is
        missing, damaged or holds pickled code (a ``.pth`` is opened with ``weights_only=True``); weights that cannot be
        fetched, or are of another model.
    """
    if not isinstance(model, Model):
        kind = type(model).__name__
        raise UserError(f"expected a Model, as jaxvision.create_model returns, and then the weights, got a {kind}")
    if model.fused:
        raise UserError("a fused model takes no weights: load them first, then call jaxvision.fuse")
    spec, access = model.spec, HubAccess(revision=revision, cache_dir=cache_dir, token=token)
    named = isinstance(source, str) and published.is_name(source)
    if named:
        found = published.find(source, access)
        published.check_architecture(found.spec, spec.name, source)
        spec, source = found.spec, found.file
    state = loading.read(model.module, source)
    if not named:
        published.refuse_revision(access)
    filled = loading.fill(
        model.module,
        model.variables,
        model.in_chans,
        state,
        fresh_classifier=True,
        classifier="it keeps its classifier",
    )
    # Names of classes belong to the classifier: to the model's, where it was kept, otherwise to the source's.
    kept = loading.classes(model.module, model.in_chans, state) is not None
    names, descriptions = model.spec.class_names, model.spec.class_descriptions
    if kept or spec.num_classes != model.num_classes:
        spec = spec.of_other_classes(model.num_classes)
    if kept:
        spec = dataclasses.replace(spec, class_names=names, class_descriptions=descriptions)
    elif spec is model.spec:
        spec = dataclasses.replace(spec, class_names=None, class_descriptions=None)
    return model.with_variables(filled).replace(spec=spec)
