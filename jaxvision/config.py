"""The config of a run: all typed sections together, and how config files and overrides are turned into them.

A config file starts from :func:`base_config`, a ``ConfigDict`` that holds every field with its default, and sets what
its recipe needs; ``--config.field=value`` changes it further. :func:`resolve` checks the result and returns it as a
frozen :class:`Config`, which is what the library works with. Each field is declared once, in its section.

``python -m jaxvision.config > docs/config.md`` writes the table of all fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxvision import options
from jaxvision.augment import make_policy
from jaxvision.augment.config import AugmentConfig
from jaxvision.data.config import DataConfig, EvalConfig
from jaxvision.errors import UserError, did_you_mean
from jaxvision.models.drop_block import KINDS
from jaxvision.models.registry import list_models, model_spec
from jaxvision.models.stochastic_depth import DROP_PATH_RULES
from jaxvision.optim.ema import EmaConfig
from jaxvision.optim.losses import LossConfig, TeacherConfig
from jaxvision.optim.optimizers import OptimizerConfig
from jaxvision.optim.rules import ALL as ALL
from jaxvision.optim.rules import KERNELS_ONLY as KERNELS_ONLY
from jaxvision.optim.schedules import ScheduleConfig
from jaxvision.options import LARGEST_INT, Problem, option, section
from jaxvision.options import REQUIRED as REQUIRED
from jaxvision.run.checkpoint import CheckpointConfig


def _model_problem(name: str) -> str | None:
    if (base := name.partition(".")[0]) not in list_models():
        return f"unknown model.{did_you_mean(base, list_models())}"
    try:
        model_spec(name)
    except UserError as error:
        return str(error)
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Network, its regularisation, and the weights it starts from."""

    name: str = option(
        "resnet50",
        "which model, see jaxvision.list_models(); with a weight tag (convnext_tiny.fb_in1k) images are normalised as "
        "for those weights",
        check=_model_problem,
    )
    image_size: int = option(224, "pixels of a side of training images", low=32, high=4096)
    num_classes: int = option(0, "classes of the classifier; 0: as the data set has", low=0, high=1_000_000)
    drop_rate: float = option(0.0, "dropout before the classifier", low=0, below=1)
    drop_path_rate: float = option(
        0.0, "stochastic depth: the largest probability with which a sample skips a block", low=0, below=1
    )
    drop_path_rule: str = option(
        "auto",
        'stochastic depth of block i of L: "linear": rate * i / (L - 1); "open_linear": rate * i / L; "stage": rate * '
        '(s + 2) / (S + 1) in stage s of S, from 0; "constant": the rate; "auto": as the model has it',
        choices=("auto", *DROP_PATH_RULES),
    )
    bn_momentum: float = option(0.1, "share of the batch in batch norm's running statistics", low=0, high=1)
    drop_block_rate: float = option(
        0.0, "DropBlock of ResNeSts: the rate rises linearly to this over the run", low=0, below=1
    )
    drop_block: str = option(
        "timm",
        '"timm": one per block, a mask per image, a rate that rises with each step; "resnest": three per block, a mask '
        "per channel for all images of a device, a rate that rises with each epoch, as ResNeSt's code has it",
        choices=KINDS,
    )
    layer_scale: float = option(0.0, "initial layer scale of networks that have one; 0: the model's own", low=0, high=1)
    zero_last_scale: bool = option(
        True, "of ResNets: the last normalisation of a block starts with a scale of 0; false: with 1, as torchvision's"
    )
    weights: str = option(
        "",
        "weights to start from: a .safetensors or .pth file, the workdir of a run, or a name: "
        '"resnet50.a1_in1k", "hf-hub:OWNER/NAME", "local-dir:PATH"',
    )
    weights_ema: bool = option(True, "of a run's workdir: start from its EMA; false: from its raw weights")
    remat: bool = option(False, "recompute activations in the backward pass: less memory, more time")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgressiveConfig:
    """Progressive learning (EfficientNetV2): equal stages of the run with their own values."""

    image_size: tuple[int, ...] = option(
        (),
        "pixels of training images in each stage; empty: constant. Evaluation stays at eval.image_size or "
        "model.image_size",
        low=32,
        high=4096,
    )
    magnitude: tuple[float, ...] = option((), "augment.randaugment_magnitude in each stage", low=0, high=100)
    mix: tuple[float, ...] = option((), "augment.mixup and augment.cutmix in each stage", low=0, high=1000)
    drop_rate: tuple[float, ...] = option((), "model.drop_rate in each stage", low=0, below=1)

    def problems(self) -> list[Problem]:
        """What does not go together."""
        lengths = {name: len(values) for name, values in dataclasses.asdict(self).items() if values}
        if len(set(lengths.values())) <= 1:
            return []
        found = ", ".join(f"{name}: {length}" for name, length in sorted(lengths.items()))
        text = f"config.progressive: all need the same number of values, got {found}"
        return [Problem(tuple(lengths), text)]


def _address_problem(text: str) -> str | None:
    good = not text or re.fullmatch(r"\S+:\d{1,5}", text)
    return None if good else 'expected "host:port", for example "node0:1234"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """Several hosts; with the defaults a run is one process."""

    auto: bool = option(False, "let JAX find the cluster (SLURM, Open MPI, TPU pods)")
    coordinator: str = option("", "host:port of process 0; empty: one process", check=_address_problem)
    processes: int = option(1, "how many processes there are", low=1, high=100_000)
    process: int = option(0, "which of them this one is, from 0", low=0, high=99_999)

    def problems(self) -> list[Problem]:
        """What does not go together."""
        if self.process < self.processes:
            return []
        text = f"config.distributed.process = {self.process} must be below processes = {self.processes}: count from 0"
        return [Problem(("process", "processes"), text)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The whole run."""

    mode: str = option(
        "train", '"eval": evaluate the newest checkpoint of the workdir and stop', choices=("train", "eval")
    )
    seed: int = option(
        0, "seed of the initial weights, the order of examples, the augmentation and dropout", low=0, high=LARGEST_INT
    )
    batch_size: int = option(256, "images per step, over all devices", low=1, high=2**20)
    epochs: float = option(100.0, "length of the run in epochs", above=0, high=1e6)
    steps: int = option(0, "length of the run in steps; 0: as epochs says", low=0, high=LARGEST_INT)
    accumulate: int = option(1, "microbatches per step: the same batch in less memory", low=1, high=2**20)
    dtype: str = option(
        "auto",
        "dtype of the activations; auto: bfloat16 on accelerators, float32 on a CPU",
        choices=("auto", "float32", "bfloat16"),
    )
    batch_norm: str = option(
        "global",
        'batch norm\'s statistics: "global": of the whole batch; "per_device": of each device\'s share (see replicas)',
        choices=("global", "per_device"),
    )
    replicas: int = option(
        0,
        "devices of the published run: batch norm per device, mixing per device and repeated augmentation split the "
        "batch as these would, on any number of devices; 0: the devices in use",
        low=0,
        high=2**20,
    )
    deterministic: bool = option(False, "on a GPU: only kernels that give the same bits every time")
    log_every: int = option(50, "steps per training record", low=1, high=LARGEST_INT)
    max_bad_steps: int = option(
        10,
        "steps in a row with a loss, gradient or statistic that is not finite, after which the run stops",
        low=1,
        high=LARGEST_INT,
    )
    watchdog_seconds: float = option(
        1800.0,
        "seconds without a finished step after which stacks are printed and the run ends; 0: never",
        low=0,
        high=31_536_000,
    )
    profile: bool = option(False, "write a trace of steps 10 to 20 after the start to WORKDIR/profile")
    compilation_cache: bool = option(True, "keep compiled programs in the user's cache folder")
    model: ModelConfig = section(ModelConfig)
    data: DataConfig = section(DataConfig)
    augment: AugmentConfig = section(AugmentConfig)
    eval: EvalConfig = section(EvalConfig)
    optimizer: OptimizerConfig = section(OptimizerConfig)
    schedule: ScheduleConfig = section(ScheduleConfig)
    loss: LossConfig = section(LossConfig)
    progressive: ProgressiveConfig = section(ProgressiveConfig)
    teacher: TeacherConfig = section(TeacherConfig)
    ema: EmaConfig = section(EmaConfig)
    checkpoint: CheckpointConfig = section(CheckpointConfig)
    distributed: DistributedConfig = section(DistributedConfig)

    def problems(self) -> list[Problem]:
        """What does not go together."""
        policy, layers = self.augment.policy, self.augment.randaugment_layers
        found = []
        if problem := _model_problem(self.teacher.name) if self.teacher.name else None:
            found.append(Problem(("teacher.name",), f"config.teacher.name = {self.teacher.name!r}: {problem}"))
        if policy:
            try:
                make_policy(policy, mean=(0.5, 0.5, 0.5), interpolation="bilinear")
            except UserError as error:
                found.append(Problem(("augment.policy",), f"config.augment.policy: {error}"))
        if policy and layers:
            text = "config.augment.policy and randaugment_layers are both set: choose one policy"
            found.append(Problem(("augment.policy", "augment.randaugment_layers"), text))
        if self.batch_size % max(self.accumulate, 1):
            text = f"config.batch_size = {self.batch_size} is not divisible by accumulate = {self.accumulate}"
            found.append(Problem(("batch_size", "accumulate"), text))
        found += self._replica_problems()
        s = self.schedule
        warmup = s.warmup_epochs
        if not self.steps and warmup > self.epochs:
            text = (
                f"config.schedule.warmup_epochs = {warmup:g} is longer than the run of config.epochs = "
                f"{self.epochs:g}: lower warmup_epochs (to 0 for none) or raise epochs"
            )
            found.append(Problem(("steps", "schedule.warmup_epochs", "epochs"), text))
        elif not self.steps and s.cooldown_epochs and warmup + s.delay_epochs + s.cooldown_epochs > self.epochs:
            text = (
                f"config.schedule: delay_epochs, warmup_epochs and cooldown_epochs are "
                f"{warmup + s.delay_epochs + s.cooldown_epochs:g} together, more than config.epochs = {self.epochs:g}: "
                "lower them or raise epochs"
            )
            fields = ("steps", "schedule.warmup_epochs", "schedule.delay_epochs", "schedule.cooldown_epochs", "epochs")
            found.append(Problem(fields, text))
        return found

    def mixes(self) -> bool:
        """Whether Mixup or CutMix mixes training images, be it in some stages only."""
        a = self.augment
        return a.mix_prob > 0 and (a.mixup > 0 or a.cutmix > 0 or any(self.progressive.mix))

    def grouped(self) -> tuple[str, ...]:
        """The fields by which a batch is split into groups, each treated by itself; empty: no field does so."""
        fields = {
            "config.batch_norm": self.batch_norm == "per_device",
            "config.augment.mix_groups": self.mixes() and self.augment.mix_groups == "per_device",
        }
        return tuple(name for name, used in fields.items() if used)

    def group_problem(self, size: int) -> str | None:
        """What is wrong with groups of ``size`` images, or None."""
        a = self.augment
        cure = 'change config.batch_size or config.replicas, or set config.augment.mix_groups = "global"'
        if "config.augment.mix_groups" not in self.grouped():
            return None
        if size < 2:
            return f"config.augment.mix_groups: a group has {size} image, and nothing to mix it with: {cure}"
        if a.mix_halves and ((a.mixup > 0 and a.cutmix > 0) or any(self.progressive.mix)) and size % 2:
            return f"config.augment.mix_halves: a group of {size} images has no halves of equal size: {cure}"
        return None

    def _replica_problems(self) -> list[Problem]:
        """What does not go together with ``replicas``, as far as that does not depend on the devices in use."""
        replicas, batch, accumulate = self.replicas, self.batch_size, max(self.accumulate, 1)
        users = (*self.grouped(), *(["config.data.repeats"] if self.data.repeats > 1 else []))
        if not replicas or not users:
            return []
        if batch % replicas:
            text = (
                f"config.batch_size = {batch} is not divisible by config.replicas = {replicas}: "
                f"for {' and '.join(users)} the batch has {replicas} groups of equal size. Set batch_size to a "
                f"multiple of {replicas}, or replicas to a divisor of {batch} (0: the devices in use)"
            )
            return [Problem(("batch_size", "replicas"), text)]
        if self.grouped() and replicas % accumulate:
            text = (
                f"config.accumulate = {accumulate} does not divide config.replicas = {replicas}: a microbatch has to "
                f"hold whole groups of {batch // replicas} images ({' and '.join(self.grouped())}): change one of "
                f"them; replicas = {accumulate} makes groups of {batch // accumulate}"
            )
            return [Problem(("accumulate", "replicas"), text)]
        problem = self.group_problem(batch // replicas)
        return [Problem(("batch_size", "replicas"), problem)] if problem else []

    def to_json(self) -> str:
        """All fields, as ``WORKDIR/config.json`` and checkpoints keep them."""
        return json.dumps(dataclasses.asdict(self))


FIELDS = options.fields(Config)  # by dotted name


def base_config() -> ConfigDict:
    """All fields with their defaults, to be changed by a config file."""
    return ConfigDict(dataclasses.asdict(Config()))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted field names with their values."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def from_saved(saved: Mapping[str, Any]) -> ConfigDict:
    """The config that a run saved, to be changed and resolved; fields that it lacks have their defaults.

    So have those of ``distributed``: another process would wait for those that took part in the run.

    Raises:
      UserError: it has fields that this version does not know.
    """
    config, values = base_config(), flatten(saved)
    if problems := unknown_fields(values):
        raise UserError("this is no config of a run of this version:\n" + "\n".join(problems))
    config.update_from_flattened_dict({k: v for k, v in values.items() if not k.startswith("distributed.")})
    return config


def resolve(config: ConfigDict) -> Config:
    """The typed, frozen config, checked as far as that needs no data and no devices.

    Raises:
      UserError: all problems at once.
    """
    values = config.to_dict()
    unknown = unknown_fields(flatten(values))
    problems: list[Problem] = []
    resolved = options.build(Config, values, problems, "config.")
    if unknown or problems:
        raise UserError("\n".join([*unknown, *(problem.text for problem in problems)]))
    return resolved


def changed_fields(saved: Mapping[str, Any], config: Config) -> list[str]:
    """Fields that differ between the config that a checkpoint keeps and a run's, as "name: old -> new".

    A field that the checkpoint lacks, because it is older, had its default.
    """
    default, new = (flatten(json.loads(c.to_json())) for c in (Config(), config))
    old = default | flatten(saved)
    return [
        f"{name}: {old.get(name)} -> {new.get(name)}" for name in sorted(old | new) if old.get(name) != new.get(name)
    ]


def unknown_fields(names: Iterable[str]) -> list[str]:
    """One message for each name that is no field, with the nearest that is."""
    return [f"unknown field config.{name}.{_nearest(name)}" for name in names if name not in FIELDS]


def _nearest(name: str) -> str:
    """`` Did you mean "config.x"?``: the same name in another section, initials (lr, wd), or a similar spelling."""
    group, _, leaf = name.rpartition(".")
    if inner := [field.removeprefix(f"{name}.") for field in FIELDS if field.startswith(f"{name}.")]:
        return f" It is a section; its fields: {', '.join(inner)}"
    leaves = {field: field.rpartition(".")[2] for field in FIELDS}
    alike = [f for f, own in leaves.items() if leaf in (own, "".join(word[:1] for word in own.split("_")))]
    alike = [field for field in alike if field.startswith(f"{group}.")] or alike
    if not alike:
        return did_you_mean(name, FIELDS).replace('"', '"config.', 1)
    return f' Did you mean "config.{difflib.get_close_matches(name, alike, n=1, cutoff=0)[0]}"?'


DOCS = """\
# Config fields

Every field of a run, with its default. A config file sets `c.optimizer.learning_rate = 0.1`, a command
`--config.optimizer.learning_rate=0.1`. To see what a recipe sets:

    jaxvision train --config resnet_rs50:digits --help

All numbers must be finite. This page is written by `make docs` from the code that uses the fields.
"""


def docs() -> str:
    """The text of ``docs/config.md``."""
    return f"{DOCS}\n{options.markdown(Config)}"


if __name__ == "__main__":
    print(docs(), end="")
