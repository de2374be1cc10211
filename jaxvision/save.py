"""Models to folders that timm, this library and the Hugging Face hub open."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxvision.errors import UserError
from jaxvision.files import replace_file, replace_text
from jaxvision.model import Model, to_torch
from jaxvision.models.registry import build_module
from jaxvision.models.variables import classifier_names, flat_shapes
from jaxvision.weights.hub import upload
from jaxvision.weights.published import CONFIG, FOLDER

WEIGHTS, CARD = "model.safetensors", "README.md"
MARK = "- jaxvision\n"  # in a card of ours, see _card
# Fields of a network that change its training alone, and its arithmetic's precision.
TRAINING_FIELDS = {"drop_rate", "drop_path_rate", "drop_path_rule", "bn_momentum", "bn_groups", "remat", "dtype",
                   "layer_scale", "zero_last_scale", "drop_block_kind", "parent", "name"}  # fmt: skip


def save_pretrained(
    model: Model,
    folder: str | Path,
    *,
    class_names: tuple[str, ...] | None = None,
    card: str = "",
    pictures: Sequence[Path] = (),
    push_to_hub: str | None = None,
    private: bool = False,
    token: str | None = None,
) -> None:
    """Writes a model's weights and settings to a folder that timm opens, too, and can publish it.

    ``jaxvision.create_model("local-dir:FOLDER")`` and ``timm.create_model("local-dir:FOLDER", pretrained=True)`` give
    the same logits.

    Args:
      model: not fused. ``model.spec`` has the preprocessing that is written.
      folder: is created; gets ``model.safetensors``, ``config.json`` and ``README.md``, the model card. A README that
        somebody else wrote is kept.
      class_names: in the classifier's order; by default those of ``model.spec``.
      card: Markdown that the model card shows between its heading and how the model is loaded.
      pictures: files that the card shows; they are copied.
      push_to_hub: "owner/name" of a repository on the Hugging Face hub, which is created where it is missing, and to
        which these files are uploaded.
      private: whether the repository, where it is created, is private.
      token: with write access to it; None: that of ``hf auth login``.

    Raises:
      UserError: a fused model, one that timm's layout cannot describe, another number of class names than classes, the
        workdir of a run, or an upload that fails.
    """
    folder = Path(folder).expanduser()
    state = to_torch(model)
    if (folder / "checkpoints").is_dir():
        raise UserError(f"{folder} is the workdir of a training run: choose another folder, its {CONFIG} would be lost")
    names = model.spec.class_names if class_names is None else tuple(class_names)
    if names is not None and len(names) != model.num_classes:
        raise UserError(f"{len(names)} class names for a model of {model.num_classes} classes")
    _check_describable(model)
    from safetensors.numpy import save_file

    replace_file(folder / WEIGHTS, lambda file: save_file(state, file, metadata={"format": "pt"}))
    replace_text(folder / CONFIG, json.dumps(timm_config(model, names), indent=2) + "\n")
    if not (folder / CARD).exists() or MARK in (folder / CARD).read_text(encoding="utf-8"):
        replace_text(folder / CARD, _card(model, names, card, push_to_hub))
    for picture in pictures:
        replace_file(folder / picture.name, lambda file, picture=picture: shutil.copyfile(picture, file))
    if push_to_hub is not None:
        files = [WEIGHTS, CONFIG, CARD, *(picture.name for picture in pictures)]
        upload(folder, push_to_hub, files, private=private, token=token)


def _check_describable(model: Model) -> None:
    """Checks that the model's name, classes and image size say what network it is.

    Raises:
      UserError: they do not.
    """
    size = model.image_size
    if size is not None and size[0] != size[1]:
        raise UserError(f"timm's config.json describes square images, this model is for {size[0]}x{size[1]}")
    same = build_module(model.spec.name, num_classes=model.num_classes, image_size=size)
    differ = [f.name for f in dataclasses.fields(same) if getattr(same, f.name) != getattr(model.module, f.name)]
    if differ := sorted(set(differ) - TRAINING_FIELDS):
        raise UserError(
            f"this {model.spec.name} differs from the one that its name builds: {', '.join(differ)}. The windows of "
            "a Swin grow in with_image_size; create_model(name, image_size=..., weights=...) keeps them"
        )


def timm_config(model: Model, class_names: tuple[str, ...] | None) -> dict[str, Any]:
    """The content of ``config.json`` as timm writes it, without the tag: the weights may have been trained since.

    Source: timm's ``save_config_for_hf`` in models/_hub.py.
    """
    spec = model.spec
    height, width = model.image_size or (spec.input_size,) * 2
    test = None if model.image_size else spec.test_input_size
    arguments: dict[str, Any] = {"num_classes": model.num_classes, "in_chans": model.in_chans}
    if model.image_size is not None:
        arguments["img_size"] = height if height == width else [height, width]
    settings = {
        "custom_load": False,
        "input_size": [model.in_chans, height, width],
        "test_input_size": [model.in_chans, test, test] if test else None,
        "fixed_input_size": model.image_size is not None,
        "interpolation": spec.interpolation,
        "crop_pct": spec.crop_pct,
        "test_crop_pct": spec.test_crop_pct if test else None,
        "crop_mode": spec.crop_mode,
        "mean": list(spec.mean),
        "std": list(spec.std),
        "num_classes": model.num_classes,
    }
    # What timm replaces for other channels and classes.
    mine, other = (flat_shapes(model.module, model.in_chans + extra) for extra in (0, 1))
    heads = sorted(classifier_names(model.module, model.in_chans))
    settings["first_conv"] = next(name for name in mine if mine[name] != other[name]).removesuffix(".weight")
    settings["classifier"] = heads[0] if len(heads) == 1 else heads
    document: dict[str, Any] = {
        "architecture": spec.name, "num_classes": model.num_classes, "num_features": model.num_features,
        "global_pool": model.module.global_pool,
        "model_args": arguments,
        "pretrained_cfg": {key: value for key, value in settings.items() if value is not None},
    }  # fmt: skip
    if class_names is not None:
        document["label_names"] = list(class_names)
        if spec.class_descriptions is not None and class_names == spec.class_names:
            document["label_descriptions"] = dict(zip(class_names, spec.class_descriptions, strict=True))
    return document


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _card(model: Model, class_names: tuple[str, ...] | None, text: str, repository: str | None) -> str:
    """The model card: YAML for the hub's search, what the model is, and how to load it."""
    source = f"hf-hub:{repository}" if repository else f"{FOLDER}PATH"
    spec = model.spec
    height, width = model.image_size or (spec.input_size,) * 2
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params)) / 1e6
    facts = [
        f"- {count:.2f} M parameters, {model.num_classes} classes, images of {height}x{width} pixels",
        f"- preprocessing: {spec.interpolation}, crop {spec.crop_pct:g} ({spec.crop_mode}), "
        f"mean {_numbers(spec.mean)}, std {_numbers(spec.std)}",
    ]
    if class_names is not None and len(class_names) <= 30:
        facts.append(f"- classes: {', '.join(class_names)}")
    parts = [
        "---\ntags:\n- image-classification\n- timm\n- jaxvision\nlibrary_name: timm\npipeline_tag: "
        "image-classification\n---",
        f"# {repository or spec.name}",
        f"A {spec.name} for image classification.",
        "\n".join(facts),
        text.strip(),
        "## Load it",
        "With jaxvision, in JAX:",
        f'```python\nimport jaxvision\n\nmodel = jaxvision.create_model("{source}")\n'
        'logits = model(jaxvision.preprocess(model)("photo.jpg"))\n```',
    ]
    if model.module.in_timm:
        loading = f'```python\nimport timm\n\nmodel = timm.create_model("{source}", pretrained=True).eval()\n```'
        parts += ["With timm, in PyTorch:", loading]
    return "\n\n".join(part for part in parts if part) + "\n"
