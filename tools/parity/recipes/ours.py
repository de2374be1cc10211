"""What jaxvision does with a recipe's config, in the same form as the facts of its source.

Each function runs the code that trains; none repeats a formula. The caller compares (``compare.py``).
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import config as config_lib
from jaxvision.augment.erasing import random_erasing
from jaxvision.config import Config
from jaxvision.data import decode, resizing
from jaxvision.main import load_config
from jaxvision.models import resnest
from jaxvision.models.drop_block import drop_block as one_drop_block
from jaxvision.models.drop_block import shared_drop_block
from jaxvision.models.registry import build_module, model_spec
from jaxvision.optim import groups as optim_groups
from jaxvision.optim import losses
from jaxvision.optim.ema import ema_rate
from jaxvision.optim.rules import match_rules
from jaxvision.train import build, inputs, progressive
from tools.parity.recipes.draws import LOSS_CASES, crop_statistics, erasing_statistics, loss_inputs, mixing_statistics

DRAWS = 20_000
IMAGES = 1_281_167  # of ImageNet's training set
FILTERS = {
    "bicubic": "bicubic antialiased",
    "bilinear": "bilinear antialiased",
    "random": "bilinear or bicubic at random, antialiased",
    "tf_bicubic": "bicubic, legacy coordinates",
    "tf_bilinear": "bilinear",
    "linear": "bilinear",
    "area": "area",
    "filter": "low-pass, then bilinear",
}


@functools.cache
def load(name: str, variant: str) -> Config:
    """A recipe's typed config."""
    config = load_config(f"configs/{name}.py" + (f":{variant}" if variant else ""), [])
    if config.model.weights == config_lib.REQUIRED:
        config.model.weights = "weights.safetensors"
    return config_lib.resolve(config)


def training_images(config: Config) -> int:
    """Examples of the training split of ImageNet."""
    first, last = re.fullmatch(r"train(?:\[(\d*):(\d*)%?\])?", config.data.train_split).groups()
    return (round(IMAGES * int(last) / 100) if last else IMAGES) - int(first or 0)


def learning_rate(config: Config, fact: dict[str, Any]) -> dict[str, Any]:
    """The rates of a run with the source's number of steps per epoch, at the source's steps."""
    lengths = build.lengths(config, fact["steps per epoch"] * config.batch_size)  # type: ignore[arg-type]
    schedule = build.run_schedule(config, lengths)
    # The run may end a fraction of an epoch earlier or later than the source's; beyond its end it keeps its last rate.
    values = np.asarray(schedule(jnp.arange(fact["steps"])), np.float64)
    steps = [step for step, _ in fact["values"]]
    return {
        "values": [[step, values[step]] for step in steps],
        "means": [part.mean() for part in np.array_split(values, len(fact["means"]))],
    }


def steps(config: Config, _fact: int) -> int:
    """Steps of a run on ImageNet."""
    return build.lengths(config, training_images(config)).total


def stochastic_depth(config: Config, _fact: list[float | None]) -> list[float]:
    """The rate of each block, as the network computes it from the config."""
    module = build.build_network(config, types.SimpleNamespace(num_classes=1000)).module
    depths = getattr(module, "depths", None) or [module.depth]  # a ViT's blocks are one stage
    return [rate for stage in module.block_rates(depths) for rate in stage]


def weight_decay(config: Config, _fact: dict[str, Any]) -> dict[str, Any]:
    """Decay that the gradient holds, or that shrinks a parameter by the rate times itself."""
    o = config.optimizer
    if o.name in ("adamw", "lamb"):
        return {"form": "decoupled", "share at the peak": o.learning_rate * o.weight_decay}
    return {"form": "coupled", "coefficient": o.weight_decay}


def decayed_parameters(config: Config, fact: dict[str, float]) -> dict[str, float]:
    """The multiple of the decay of each parameter that the source names; ``*`` is a block's number."""
    rules = config.optimizer.decay_rules
    plain = {name: name.replace("*", "0").rpartition(":")[0] for name in fact}
    # One by one: without their numbers, a convolution and a norm of another block may have the same name.
    found = {name: match_rules({plain[name]: np.empty((0,) * int(name[-2]))}, rules) for name in fact}
    return {name: float(found[name][plain[name]]) for name in fact}


def layer_rates(config: Config, fact: dict[str, float]) -> dict[str, float]:
    """The multiple of the learning rate of each part of the network, by any name of a parameter in it."""
    o = config.optimizer
    family = type(build_module(config.model.name, image_size=config.model.image_size))
    names = {f"{part}.weight": np.empty(0) for part in fact}
    groups = optim_groups.choose_groups(o.layer_groups, family)
    found = optim_groups.rate_multiples(names, o.rate_rules, groups=groups, decay=o.layer_decay, freeze=o.freeze)
    return {part: float(found[f"{part}.weight"]) for part in fact}


def optimizer(config: Config, fact: dict[str, Any]) -> dict[str, Any]:
    """The update rule and what the source states of it."""
    return {
        key: config.optimizer.name if key == "rule" else getattr(config.optimizer, key.replace(" ", "_"))
        for key in fact
    }


def gradient_clipping(config: Config, _fact: float) -> float:
    """Largest norm of the gradient; LAMB clips at 1 by itself."""
    return config.optimizer.clip_norm or (1.0 if config.optimizer.name == "lamb" else 0.0)


def ema(config: Config, fact: Any) -> dict[str, Any]:
    """The share of the old average that each update keeps."""
    updates = [update for update, _ in fact["decays"]] if isinstance(fact, dict) else [10**6]
    kept = [1.0 - float(ema_rate(config.ema, jnp.int32(update))) for update in updates]
    return {"every": 1, "decays": [list(pair) for pair in zip(updates, kept, strict=True)]}


@functools.cache
def crops(
    kind: str, area: tuple[float, float], ratio: tuple[float, float], covered: float, size: str
) -> dict[str, Any]:
    """Statistics of the boxes that the training transform cuts out of an image of "HEIGHTxWIDTH" pixels."""
    height, width = map(int, size.split("x"))
    image, out = np.broadcast_to(np.uint8(0), (height, width, 3)), np.empty((8, 8, 3), np.uint8)
    boxes = np.empty((DRAWS, 4), np.int64)
    whole = np.array([0, 0, height, width])
    current = whole

    def cut(_image: np.ndarray, box: decode.Box) -> np.ndarray:
        nonlocal current
        current = np.array(box)
        return out

    transform = decode.train_transform(
        size=8, crop=kind, area=area, ratio=ratio, resize="linear", crop_pct=0.875, interpolation="bicubic",
        min_object_covered=covered,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    with mock.patch.object(decode, "_cut", cut), mock.patch.object(decode, "eval_image", lambda *_, **__: out):
        for i, uniforms in enumerate(rng.random((DRAWS, decode.UNIFORMS))):
            current = whole  # where no crop is found
            transform(image, uniforms, out)
            boxes[i] = current
    return crop_statistics(boxes, height, width)


def crop(config: Config, size: str) -> dict[str, Any]:
    """:func:`crops` of a config."""
    d = config.data
    return crops(d.crop, tuple(d.crop_area), tuple(d.crop_ratio), d.min_object_covered, size)


def evaluation_crop(config: Config, _fact: Any) -> dict[str, Any]:
    """How much of the short side of an image the evaluation keeps, by the sizes that it resizes to."""
    e, size = config.eval, inputs.eval_image_size(config)
    if e.crop_mode == "squash":
        return {"order": "squash", "kept": e.crop_pct}
    side = 10**6
    asked: list[tuple[tuple[int, ...], int]] = []

    def resize(image: np.ndarray, height: int, width: int, mode: str, **_: Any) -> np.ndarray:
        asked.append((image.shape[:2], height))
        return np.broadcast_to(np.uint8(0), (height, width, 3))

    transform = decode.eval_transform(
        size=size, crop_pct=e.crop_pct, interpolation=e.interpolation, crop_mode=e.crop_mode
    )
    with mock.patch.object(resizing, "resize", resize):
        transform(np.broadcast_to(np.uint8(0), (side, side + 10, 3)), None, np.empty((size, size, 3), np.uint8))
    ((shape, height),) = asked
    if shape[0] < side:
        return {"order": "crop, resize", "kept": shape[0] / side}
    return {"order": "resize, crop", "kept": size / height}


def stages(config: Config) -> list[Config]:
    """The configs of the parts of a run; one where it has no progressive learning."""
    return [stage.config for stage in progressive.stages(config, 1_000_000)]


def by_stage(value: Callable[[Config], Any]) -> Callable[[Config, Any], Any]:
    """A field's value, or where it changes from stage to stage the list of its values."""

    def of(config: Config, _fact: Any) -> Any:
        values = [value(stage) for stage in stages(config)]
        return values if len(set(values)) > 1 else values[0]

    return of


def mixing(config: Config, fact: Any) -> Any:
    """In the last part of a run: the partner of an image, and the distribution of its own label's weight."""
    last = stages(config)[-1]
    mix = build.make_mix(last)
    if not mix:
        return "none"
    mix = dataclasses.replace(mix, groups=1)
    result = {"partner": _partner(mix), "drawn per": "example" if mix.per_example else "batch"}
    if isinstance(fact, dict) and "CutMix labels" in fact:
        result["CutMix labels"] = "mean of the half" if _labels_share_a_weight(mix) else "each its own mask's"
    return result | mixing_weights(mix, last.model.image_size)


@functools.cache
def mixing_weights(mix: Any, size: int) -> dict[str, Any]:
    """Statistics of the label's own weight over draws of a :class:`Mix`."""
    forced = (jnp.arange(DRAWS) % 2 == 1) if mix.halves and mix.mixup and mix.cutmix else None
    is_cut, lam, _ = (jax.device_get(value) for value in mix.draw(jax.random.key(0), DRAWS, size, size, forced))
    return mixing_statistics(lam[~is_cut].astype(np.float64), lam[is_cut].astype(np.float64))


def _partner(mix: Any) -> str:
    """Which image each of eight is mixed with."""
    partners = np.asarray(mix.partners(jnp.arange(8))).tolist()
    known = {
        "mirrored": [7, 6, 5, 4, 3, 2, 1, 0],
        "previous": [7, 0, 1, 2, 3, 4, 5, 6],
        "mirrored in its half": [3, 2, 1, 0, 7, 6, 5, 4],
    }
    return next((name for name, pattern in known.items() if pattern == partners), str(partners))


def _labels_share_a_weight(mix: Any) -> bool:
    """Whether the second half of the batch, which is CutMix's, has one weight for all labels."""
    _, targets = mix(jax.random.key(1), jnp.zeros((8, 16, 16, 1)), jnp.eye(8))
    return bool(np.ptp(np.diag(np.asarray(targets))[4:]) < 1e-6)


def drop_block(config: Config, fact: dict[str, Any]) -> dict[str, Any]:
    """DropBlock's rates at the ends of some epochs of the source, its masks, and how many there are in the network."""
    m = config.model
    lengths = build.lengths(config, IMAGES)
    schedule = build.drop_block_schedule(config, lengths)
    middle = [int((epoch + 0.5) * lengths.per_epoch) for epoch in (0, 1, 134, 269)]
    side = -(-m.image_size // 16)
    masks, calls = [], 0

    def count(x: jax.Array, *_: Any) -> jax.Array:
        nonlocal calls
        calls += 1
        return x

    own = build_module(m.name)
    small = own.clone(depths=(1, 1, 1, 1), drop_block_kind=m.drop_block)
    with mock.patch.object(resnest, "shared_drop_block", count), mock.patch.object(resnest, "drop_block", count):
        jax.eval_shape(
            lambda key: small.init_with_output(
                {"params": key, "drop_path": key}, jnp.zeros((2, 64, 64, 3)), train=True, drop_block=0.1
            ),
            jax.random.key(0),
        )
    shared = m.drop_block == "resnest"
    for seed in range(8):
        arguments = (jnp.ones((4, side, side, 64)), m.drop_block_rate, jax.random.key(seed))
        dropped = shared_drop_block(*arguments, 1) if shared else one_drop_block(*arguments)
        masks.append(np.asarray(dropped) > 0)
    kept = np.stack(masks)
    alike = bool((kept == kept[:, :1]).all()), bool((kept == kept[..., :1]).all())
    names = {(True, False): "one per channel, shared by the batch", (False, True): "one per image, shared by channels"}
    return {
        "rates by epoch": [float(schedule(step)) for step in middle],
        "block": fact["block"] if _square(kept[0, 0, :, :, 0], 3) else "another shape",
        "masks": names.get(alike, "others"),
        "places": calls // 2 * sum(own.depths[2:]),
        "kept inside": float(kept[:, :, 1:-1, 1:-1].mean()),
    }


def _square(kept: np.ndarray, side: int) -> bool:
    """Whether every dropped pixel belongs to a dropped square of this side, cut by the edge of the map."""
    wide = np.pad(~kept, side, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (side, side)).all((2, 3))
    covered = np.zeros_like(wide)
    for y, x in zip(*np.nonzero(windows), strict=True):
        covered[y : y + side, x : x + side] = True
    return bool((covered | ~wide).all())


def loss(config: Config, fact: dict[str, float]) -> dict[str, float]:
    """The loss of mixed, smoothed labels."""
    logits, labels, partners = loss_inputs()
    per_example = losses.make_loss(config.loss)
    found = {}
    for lam, what in LOSS_CASES:
        if what in fact:
            own, other = (
                losses.smoothed_one_hot(jnp.asarray(of), logits.shape[1], config.loss.label_smoothing)
                for of in (labels, partners)
            )
            found[what] = float(per_example(jnp.asarray(logits), lam * own + (1 - lam) * other).mean())
    return found


@functools.cache
def _erased(prob: float, size: int, images: int, **options: Any) -> np.ndarray:
    """Share, rows and columns that are erased of each of many images, (images, 3)."""
    blank = jnp.ones((images, size, size, 1))
    erase = jax.jit(lambda key: random_erasing(key, blank, prob=prob, fill="zero", **options) == 0)
    gone = np.asarray(erase(jax.random.key(0)))[..., 0]
    return np.stack([gone.mean((1, 2)), gone.any(2).sum(1), gone.any(1).sum(1)], 1)


def erasing(config: Config, _fact: Any) -> Any:
    """Statistics of random erasing."""
    a = config.augment
    if not a.erase_prob:
        return "none"
    count = a.erase_max_count
    options = {"area": tuple(a.erase_area), "aspect": tuple(a.erase_aspect), "max_count": count}
    certain = _erased(1.0, config.model.image_size, 1000, **options)
    return erasing_statistics(_erased(a.erase_prob, 16, DRAWS, **options), certain, count)


def policies(config: Config) -> list[tuple[Any, Any]]:
    """The augmentation section of each part of the run, with what is published of the model."""
    sections = list(dict.fromkeys(stage.augment for stage in stages(config)))
    return [(section, model_spec(config.model.name)) for section in sections]


FIELDS: dict[str, Callable[[Config, Any], Any]] = {
    "batch": lambda config, _: config.batch_size,
    "replicas": lambda config, _: config.replicas,
    "image size": by_stage(lambda config: config.model.image_size),
    "steps": steps,
    "stochastic depth": stochastic_depth,
    "dropout": by_stage(lambda config: config.model.drop_rate),
    "drop block": drop_block,
    "learning rate": learning_rate,
    "weight decay": weight_decay,
    "decayed parameters": decayed_parameters,
    "layer rates": layer_rates,
    "optimizer": optimizer,
    "gradient clipping": gradient_clipping,
    "ema": ema,
    "train filter": lambda config, _: FILTERS[config.data.resize],
    "flip": lambda config, _: 0.5 if config.augment.flip else 0.0,
    "repeated augmentation": lambda config, _: config.data.repeats,
    "color jitter": lambda config, _: config.augment.color_jitter,
    "lighting": lambda config, _: config.augment.lighting,
    "erasing": erasing,
    "erased values": lambda config, _: config.augment.erase_fill,
    "mixing": mixing,
    "loss": loss,
    "evaluation size": lambda config, _: inputs.eval_image_size(config),
    "evaluation crop": evaluation_crop,
    "evaluation filter": lambda config, _: FILTERS[config.eval.interpolation],
}
