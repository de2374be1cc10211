"""Every field of a run with its default and meaning, and the checks that need no data.

A config file starts from :func:`base_config` and sets what its claim needs.
"""

from __future__ import annotations

import math
import re
from typing import Any

import ml_collections
from ml_collections import config_dict

from jaxvision.augment import make_policy
from jaxvision.augment.erasing import FILLS
from jaxvision.augment.mix import PAIRINGS
from jaxvision.augment.pil import INTERPOLATIONS
from jaxvision.data.decode import PIL_FILTERS, RESIZES
from jaxvision.errors import UserError, did_you_mean
from jaxvision.models.registry import list_models
from jaxvision.optim.losses import DISTILLATIONS as KINDS
from jaxvision.optim.optimizers import OPTIMIZERS
from jaxvision.optim.schedules import SCHEDULES, WARMUPS

Config = ml_collections.ConfigDict

# Multiples of weight_decay by parameter, matched against "name:rank", for example "layer1.0.conv1.weight:4d".
KERNELS_ONLY = ((r".*:[2-9]d", 1.0), (r".*:[01]d", 0.0))  # neither norms nor biases
ALL = ((r".*", 1.0),)

REQUIRED = "?"  # a text that the command line has to replace

CHOICES: dict[str, tuple[str, ...]] = {
    "mode": ("train", "eval"),
    "dtype": ("auto", "float32", "bfloat16"),
    "batch_norm": ("global", "per_device"),
    "data.crop": ("torch", "tf", "none"),
    "data.resize": RESIZES,
    "data.on_corrupt": ("fail", "skip"),
    "eval.crop_mode": ("center", "squash"),
    "augment.interpolation": INTERPOLATIONS,
    "eval.interpolation": tuple(PIL_FILTERS),
    "optimizer.name": OPTIMIZERS,
    "optimizer.first_moment": ("float32", "bfloat16"),
    "schedule.name": SCHEDULES,
    "schedule.warmup": WARMUPS,
    "loss.name": ("cross_entropy", "binary"),
    "augment.erase_fill": FILLS,
    "augment.mix_pairing": PAIRINGS,
    "augment.mix_groups": ("global", "per_device"),
    "teacher.kind": KINDS,
}

# field -> (lowest, highest) allowed value.
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "batch_size": (1, math.inf),
    "epochs": (1e-9, math.inf),
    "steps": (0, math.inf),
    "accumulate": (1, math.inf),
    "log_every": (1, math.inf),
    "max_bad_steps": (1, math.inf),
    "watchdog_seconds": (0, math.inf),
    "model.image_size": (32, 4096),
    "model.num_classes": (0, math.inf),
    "model.drop_rate": (0, 0.999),
    "model.drop_path_rate": (0, 0.999),
    "model.bn_momentum": (0, 1),
    "model.drop_block_rate": (0, 0.999),
    "model.layer_scale": (0, 1),
    "data.repeats": (1, 64),
    "data.threads": (0, 1024),
    "data.ahead": (1, 1024),
    "data.synthetic_examples": (1, math.inf),
    "augment.randaugment_layers": (0, 16),
    "augment.randaugment_magnitude": (0, 100),
    "augment.translate_const": (0, 1000),
    "augment.cutout_const": (0, 1000),
    "augment.color_jitter": (0, 10),
    "augment.lighting": (0, 10),
    "augment.erase_prob": (0, 1),
    "augment.erase_max_count": (1, 16),
    "augment.mixup": (0, math.inf),
    "augment.cutmix": (0, math.inf),
    "augment.mix_prob": (0, 1),
    "augment.mix_switch": (0, 1),
    "eval.batch_size": (0, math.inf),
    "eval.image_size": (0, 4096),
    "eval.crop_pct": (0.1, 1),
    "eval.every_epochs": (1e-9, math.inf),
    "optimizer.learning_rate": (0, math.inf),
    "optimizer.momentum": (0, 1),
    "optimizer.b1": (0, 1),
    "optimizer.b2": (0, 1),
    "optimizer.eps": (0, 1),
    "optimizer.rho": (0, 1),
    "optimizer.trust_coefficient": (0, math.inf),
    "optimizer.clip_norm": (0, math.inf),
    "optimizer.clip_adaptive": (0, math.inf),
    "optimizer.weight_decay": (0, math.inf),
    "optimizer.layer_decay": (0, 1),
    "schedule.warmup_epochs": (0, math.inf),
    "schedule.start_learning_rate": (0, math.inf),
    "schedule.end_learning_rate": (0, math.inf),
    "schedule.decay_epochs": (1e-9, math.inf),
    "schedule.decay_rate": (0, 1),
    "loss.target_threshold": (-1, 1),
    "loss.label_smoothing": (0, 0.999),
    "teacher.alpha": (0, 1),
    "teacher.temperature": (1e-9, math.inf),
    "ema.decay": (0, 1),
    "checkpoint.every_steps": (0, math.inf),
    "checkpoint.keep": (1, math.inf),
}


def base_config() -> Config:
    """All fields with their defaults."""
    c = Config()
    c.mode = "train"  # "eval": evaluate the newest checkpoint of the workdir and stop
    c.seed = 0  # of the weights, the order, the augmentation, dropout
    c.batch_size = 256  # of all devices together
    c.epochs = 100.0
    c.steps = 0  # if not 0, instead of epochs
    c.accumulate = 1  # microbatches per step
    c.dtype = "auto"  # compute; auto: bfloat16 on accelerators, float32 on CPU
    c.batch_norm = "global"  # statistics over the whole batch, or "per_device"
    c.deterministic = False  # GPU: only kernels that give the same bits every time
    c.log_every = 50  # steps per training record
    c.max_bad_steps = 10  # steps in a row that are not finite, after which the run stops
    c.watchdog_seconds = 1800.0  # without a finished step, after which stacks are printed and the run ends; 0: never
    c.profile = False  # write a trace of steps 10 to 20 after the start to WORKDIR/profile
    c.compilation_cache = True  # keep compiled programs in the user's cache folder

    c.model = m = Config()
    m.name = "resnet50"
    m.image_size = 224
    m.num_classes = 0  # 0: as the data set has
    m.drop_rate = 0.0  # dropout before the classifier
    m.drop_path_rate = 0.0  # stochastic depth
    m.bn_momentum = 0.1  # share of the batch in the running statistics
    m.drop_block_rate = 0.0  # DropBlock of ResNeSts: the rate rises linearly from 0 to this
    m.layer_scale = 0.0  # initial layer scale of DeiT-III; 0: timm's 1e-6
    m.weights = ""  # to start from: a .safetensors or .pth file, or the workdir of a run
    m.remat = False  # recompute activations in the backward pass: less memory, more time

    c.data = d = Config()
    d.name = "imagenet2012"  # a prepared tfds data set, or "digits", "folder", "npz", "synthetic"
    d.dir = "~/tensorflow_datasets"  # tfds data_dir; the folder; the .npz file
    d.train_split = "train"  # also slices such as train[:99%]
    d.eval_split = "validation"
    d.fold = ""  # "k/n": train on the training split without its k-th of n parts, and evaluate on that part
    d.crop = "torch"  # how a crop is drawn: "torch", "tf" (smaller) or "none" (the whole image, squashed)
    d.crop_area = (0.08, 1.0)
    d.crop_ratio = (3 / 4, 4 / 3)
    d.resize = "filter"  # nearly antialiased and fast; or "area" (OpenCV), "antialias" (Pillow bicubic), "linear"
    d.repeats = 1  # repeated augmentation: copies of an image in a batch, dealt to different devices
    d.threads = 0  # decoding threads; 0: one per core
    d.ahead = 2  # batches prepared ahead
    d.on_corrupt = "fail"  # or "skip": take the next readable example, count and report
    d.synthetic_examples = 1024
    d.synthetic_classes = 10

    c.augment = a = Config()
    a.flip = True
    a.randaugment_layers = 0  # N; 0: no RandAugment
    a.randaugment_magnitude = 10.0  # M, of 10, not clamped (TensorFlow's semantics)
    a.translate_const = 100.0  # pixels of a translation at M = 10
    a.cutout_const = 40.0  # half side of the cutout at M = 10
    a.policy = ""  # timm's rand-m9-mstd0.5-inc1 and alike, "trivial", "3a", ...: see augment.make_policy
    a.interpolation = "bicubic"  # of that policy's geometry
    a.color_jitter = 0.0  # brightness, contrast and saturation by up to this share; behind the policy
    a.lighting = 0.0  # standard deviation of PCA color noise
    a.erase_prob = 0.0  # random erasing, after normalisation
    a.erase_area = (0.02, 1 / 3)
    a.erase_aspect = (0.3, 1 / 0.3)
    a.erase_fill = "pixel"  # noise for every value; "channel": per box and channel; "zero": the mean color
    a.erase_max_count = 1  # boxes per image
    a.mixup = 0.0  # alpha; 0: none
    a.cutmix = 0.0
    a.mix_prob = 1.0
    a.mix_switch = 0.5  # probability of CutMix where both alphas are set
    a.mix_pairing = "reverse"  # or "roll"
    a.mix_per_example = False  # a lambda for each example, not for the batch
    a.mix_symmetric = False  # Mixup's lambda = max(lambda, 1 - lambda)
    a.mix_halves = False  # Mixup for one half of the batch and CutMix for the other
    a.mix_groups = "per_device"  # each device's share is mixed by itself; or "global"

    c.eval = e = Config()
    e.batch_size = 0  # 0: as in training
    e.image_size = 0  # 0: as in training
    e.crop_pct = 0.875
    e.crop_mode = "center"  # keep the aspect ratio and cut, or "squash"
    e.interpolation = "bicubic"
    e.every_epochs = 1.0

    c.optimizer = o = Config()
    o.name = "sgd"
    o.learning_rate = 0.1  # for the whole batch
    o.momentum = 0.9
    o.nesterov = True
    o.b1, o.b2 = 0.9, 0.999  # of adamw and lamb
    o.eps = 1e-8  # of all but sgd
    o.rho = 0.9  # of rmsprop_tf
    o.trust_coefficient = 0.001  # of lars
    o.first_moment = "float32"  # dtype of adamw's
    o.clip_norm = 0.0  # of the gradient; 0: none. lamb clips at 1 by itself
    o.clip_adaptive = 0.0  # adaptive gradient clipping per output unit; 0: none
    o.clip_rules = ALL  # ((regex, 1 or 0), ...): which parameters that clips
    o.rate_rules = ALL  # ((regex, multiple of the learning rate), ...)
    o.layer_decay = 1.0  # multiple of the learning rate from one block to the one before it
    o.freeze = ""  # regex of names ("layer1.0.conv1.weight:4d"): parameters that match stay as they are
    o.weight_decay = 1e-4  # coupled in sgd, rmsprop_tf and lars; decoupled (times the rate) in adamw and lamb
    o.decay_rules = KERNELS_ONLY  # ((regex, multiple of weight_decay), ...); each parameter must match exactly one

    c.schedule = s = Config()
    s.warmup_epochs = 5.0
    s.name = "cosine"  # or "exponential" (a staircase), "step", "constant"
    s.warmup = "after"  # where the decay begins; also "linspace" and "under", see jaxvision/optim/schedules.py
    s.per_epoch = False  # change the rate between epochs only
    s.decay_epochs = 2.4  # of the exponential
    s.decay_rate = 0.97  # of exponential and step
    s.boundaries = ()  # of step, in epochs
    s.start_learning_rate = 0.0
    s.end_learning_rate = 0.0

    c.loss = Config()
    c.loss.name = "cross_entropy"  # or "binary": a sigmoid per class
    c.loss.target_threshold = -1.0  # of the binary: targets above become 1, others 0; negative: as they are
    c.loss.sum_classes = False  # of the binary: the sum over classes, not the mean
    c.loss.label_smoothing = 0.0

    c.progressive = p = Config()  # EfficientNetV2: values of equal parts of the run; empty: constant
    p.image_size = ()  # pixels of training images; evaluation stays at eval.image_size or model.image_size
    p.magnitude = ()  # of augment.randaugment_magnitude
    p.mix = ()  # alpha of both Mixup and CutMix
    p.drop_rate = ()

    c.teacher = t = Config()  # distillation (DeiT)
    t.name = ""  # model; empty: none
    t.weights = ""  # its .safetensors or .pth file, or the workdir of a run
    t.kind = "hard"  # or "soft"
    t.alpha = 0.5  # share of the distillation in the loss
    t.temperature = 3.0  # of "soft"

    c.ema = Config()
    c.ema.decay = 0.9999
    c.ema.warmup = True  # decay = min(decay, (1 + step) / (10 + step))

    c.checkpoint = Config()
    c.checkpoint.every_steps = 0  # besides after each evaluation; 0: only then
    c.checkpoint.keep = 2  # latest; the best is kept besides

    c.distributed = Config()  # for several hosts; empty: one process, or what JAX detects with auto
    c.distributed.auto = False  # let JAX find the cluster (SLURM, Open MPI, TPU pods)
    c.distributed.coordinator = ""  # host:port of process 0
    c.distributed.processes = 1
    c.distributed.process = 0
    return c


def flatten(config: Config, prefix: str = "") -> dict[str, Any]:
    """Dotted field names with their values."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, config_dict.ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def validate(config: Config) -> None:
    """Checks what can be checked without data and devices.

    Raises:
      UserError: all problems at once.
    """
    flat = flatten(config)
    problems = []
    for field, choices in CHOICES.items():
        if flat[field] not in choices:
            near = did_you_mean(str(flat[field]), choices)
            problems.append(f"config.{field} = {flat[field]!r}: expected one of {', '.join(choices)}.{near}")
    for field, (low, high) in RANGES.items():
        if not low <= flat[field] <= high:
            problems.append(f"config.{field} = {flat[field]}: expected a value between {low:g} and {high:g}")
    for field, value in flat.items():
        if isinstance(value, str) and value == REQUIRED:
            problems.append(f"config.{field} has to be given: --config.{field}=...")
    for field in ("model.name", "teacher.name"):
        if flat[field] not in list_models() and (flat[field] or field == "model.name"):
            near = did_you_mean(flat[field], list_models())
            problems.append(f"config.{field} = {flat[field]!r}: unknown model.{near}")
    if config.teacher.name and not config.teacher.weights:
        problems.append("config.teacher.weights is empty: name the teacher's weights")
    problems += _progressive_problems(flat)
    try:
        parse_fold(config.data.fold)
    except UserError as error:
        problems.append(str(error))
    for field in ("data.crop_area", "data.crop_ratio", "augment.erase_area", "augment.erase_aspect"):
        pair = flat[field]
        if len(pair) != 2 or not 0 < pair[0] <= pair[1] or (field.endswith("_area") and pair[1] > 1):
            problems.append(f"config.{field} = {pair}: expected (low, high) with 0 < low <= high, areas at most 1")
    if config.augment.policy:
        try:
            make_policy(config.augment.policy, mean=(0.5, 0.5, 0.5), interpolation="bilinear")
        except UserError as error:
            problems.append(f"config.augment.policy: {error}")
        if config.augment.randaugment_layers:
            problems.append("config.augment.policy and randaugment_layers are both set: choose one policy")
    if config.batch_size % config.accumulate:
        problems.append(f"config.batch_size = {config.batch_size} is not divisible by accumulate = {config.accumulate}")
    if problems:
        raise UserError("\n".join(problems))


def _progressive_problems(flat: dict[str, Any]) -> list[str]:
    bounds = {
        "image_size": RANGES["model.image_size"],
        "magnitude": RANGES["augment.randaugment_magnitude"],
        "mix": RANGES["augment.mixup"],
        "drop_rate": RANGES["model.drop_rate"],
    }
    stages = {field: flat[f"progressive.{field}"] for field in bounds}
    problems = [
        f"config.progressive.{field} = {values}: expected values between {bounds[field][0]:g} and {bounds[field][1]:g}"
        for field, values in stages.items()
        if any(not bounds[field][0] <= value <= bounds[field][1] for value in values)
    ]
    lengths = {f"{field}: {len(values)}" for field, values in stages.items() if values}
    if len({len(values) for values in stages.values() if values}) > 1:
        problems.append(f"config.progressive: all need the same number of values, got {', '.join(sorted(lengths))}")
    return problems


def parse_fold(text: str) -> tuple[int, int] | None:
    """(k, n) of "k/n", None of an empty text.

    Raises:
      UserError: anything but 1 <= k <= n with n at least 2.
    """
    if not text:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) or int(match[2]) < 2:
        raise UserError(f'config.data.fold = {text!r}: expected "k/n" with 1 <= k <= n, for example "1/5"')
    return int(match[1]), int(match[2])
