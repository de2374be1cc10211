"""Trains small networks with the same recipe here and with timm's parts: are the accuracies within noise?

  python tools/parity/training.py --seeds 3 --out benchmarks/results     # one network of each family
  python tools/parity/training.py --models resnet10t

The images are the digits as PNG files in class folders, which both sides read. timm's side does in short what its
training script does, which is not in the wheel: its dataset, loader, transforms, RandAugment, random erasing, Mixup,
model, optimizer, scheduler, loss and EMA, in that script's order. The two sides take turns, seed by seed. Written are
a JSON file and a picture of the accuracies over the epochs.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.shared import command_line


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What differs between the networks.

    Attributes:
      config: the config file that is started from; it has the rules of what decays.
      size: pixels of a side.
      epochs: of which WARMUP are warm-up; a multiple of EVALUATIONS.
      optimizer, rate, decay: timm's name of the optimizer, highest learning rate, weight decay.
      drop_path: stochastic depth of the last block.
      drop: dropout before the classifier.
      eps: of the optimizer; None where it has none.
      patches: whether the network has to be told the size.
    """

    config: str
    size: int
    epochs: int
    optimizer: str
    rate: float
    decay: float
    drop_path: float = 0.0
    drop: float = 0.0
    eps: float | None = None
    patches: bool = False


RECIPES = {
    "resnet10t": Recipe("seresnext50", 32, 20, "sgd", 0.02, 1e-4),
    "convnext_atto": Recipe("convnext_t", 32, 20, "adamw", 1e-3, 0.05, drop_path=0.1, eps=1e-8),
    "deit_tiny_patch16_224": Recipe("deit_s", 48, 40, "adamw", 5e-4, 0.05, drop_path=0.1, eps=1e-8, patches=True),
    "tf_efficientnet_b0": Recipe("seresnext50", 32, 40, "rmsproptf", 3e-4, 1e-5, drop_path=0.1, drop=0.2, eps=1e-3),
}
NAMES = {"rmsproptf": "rmsprop_tf"}  # jaxvision's name where it is not timm's
BATCH, WARMUP, AUGMENT, SCALE = 64, 2, "rand-m5-mstd0.5-inc1", (0.6, 1.0)
MIXUP, CUTMIX, ERASE, SMOOTHING, EMA = 0.2, 0.2, 0.1, 0.1, 0.98
EVALUATIONS = 10  # of a run, at equal distances
COLORS = {"jaxvision": "tab:blue", "timm": "tab:orange"}
Curve = list[tuple[int, float, float]]  # epoch, top-1 of the raw weights and of the EMA, in percent


def make_folder(folder: Path, size: int) -> None:
    """The digits as ``folder/{train,val}/CLASS/*.png`` of ``size`` pixels."""
    import numpy as np
    from PIL import Image

    from jaxvision.data import decode, digits

    scratch = decode.Scratch()
    for split, name in (("train", "train"), ("test", "val")):
        source = digits.source(split)
        for i in range(len(source)):
            raw, label = source.read(i)
            image = np.array(decode.decode(raw, scratch))
            target = folder / name / str(label)
            target.mkdir(parents=True, exist_ok=True)
            enlarged = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
            enlarged.save(target / f"{i}.png")


def ours(model: str, folder: Path, workdir: Path, seed: int) -> Curve:
    """The evaluations of a run of ``jaxvision.main``."""
    from jaxvision.run.records import read_records

    r = RECIPES[model]
    fields = {
        "seed": seed, "model.name": model, "model.image_size": r.size, "batch_size": BATCH, "epochs": float(r.epochs),
        "model.drop_path_rate": r.drop_path, "model.drop_rate": r.drop,
        "batch_norm": "global", "data.crop_area": SCALE, "data.resize": "bicubic", "data.repeats": 1,
        "augment.flip": False, "augment.policy": AUGMENT, "augment.erase_prob": ERASE, "augment.mixup": MIXUP,
        "augment.cutmix": CUTMIX, "optimizer.name": NAMES.get(r.optimizer, r.optimizer), "optimizer.nesterov": True,
        "optimizer.learning_rate": r.rate, "optimizer.weight_decay": r.decay, "schedule.warmup": "after",
        "schedule.warmup_epochs": float(WARMUP), "schedule.per_epoch": False, "schedule.start_learning_rate": 0.0,
        "schedule.end_learning_rate": 0.0, "loss.label_smoothing": SMOOTHING, "ema.decay": EMA, "ema.warmup": False,
        "eval.image_size": 0, "eval.crop_pct": 1.0, "eval.every_epochs": r.epochs / EVALUATIONS,
        "checkpoint.every_steps": 0, "dtype": "float32", "replicas": 0, "augment.mix_groups": "global",
        "augment.interpolation": "bicubic", "augment.erase_max_count": 1, "schedule.delay_epochs": 0.0,
        "schedule.cooldown_epochs": 0.0,
    }  # fmt: skip
    if r.eps is not None:
        fields["optimizer.eps"] = r.eps
    command = [sys.executable, "-m", "jaxvision.main", "--config", f"configs/{r.config}.py:folder={folder}"]
    command += ["--workdir", str(workdir), *(f"--config.{key}={value}" for key, value in fields.items())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    records = [record for record in read_records(workdir) if record["kind"] == "eval"]
    assert len(records) == EVALUATIONS, f"{len(records)} evaluations"
    every = r.epochs // EVALUATIONS
    return [((i + 1) * every, record["top1"], record["ema_top1"]) for i, record in enumerate(records)]


def theirs(model: str, folder: Path, seed: int) -> Curve:
    """The evaluations of timm's parts with the same recipe, on a CPU."""
    from tools.parity.reference import timm, torch

    from timm import data, loss, scheduler, utils  # isort: skip  (importable after tools.parity.reference)
    from timm import optim as timm_optim  # isort: skip

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    utils.random_seed(seed, 0)
    r = RECIPES[model]
    sized = {"img_size": r.size} if r.patches else {}
    network = timm.create_model(model, num_classes=10, drop_rate=r.drop, drop_path_rate=r.drop_path, **sized)
    eps = {} if r.eps is None else {"eps": r.eps}
    optimizer = timm_optim.create_optimizer_v2(
        network, r.optimizer, lr=r.rate, weight_decay=r.decay, momentum=0.9, **eps
    )
    ema = utils.ModelEmaV3(network, decay=EMA)
    train_set, val_set = (data.create_dataset("", root=str(folder / split)) for split in ("train", "val"))
    common = {"input_size": (3, r.size, r.size), "batch_size": BATCH, "num_workers": 0, "device": torch.device("cpu")}
    batches = data.create_loader(
        train_set, is_training=True, scale=SCALE, ratio=(3 / 4, 4 / 3), hflip=0.0, color_jitter=None,
        auto_augment=AUGMENT, re_prob=ERASE, re_mode="pixel", interpolation="bicubic", **common,
    )  # fmt: skip
    evaluation = data.create_loader(val_set, is_training=False, interpolation="bicubic", crop_pct=1.0, **common)
    mixup = data.Mixup(MIXUP, CUTMIX, prob=1.0, switch_prob=0.5, label_smoothing=SMOOTHING, num_classes=10)
    steps = len(batches)
    schedule = scheduler.CosineLRScheduler(
        optimizer, t_initial=(r.epochs - WARMUP) * steps, warmup_t=WARMUP * steps, warmup_lr_init=0.0,
        warmup_prefix=True, t_in_epochs=False,
    )  # fmt: skip
    criterion, update = loss.SoftTargetCrossEntropy(), 0

    def top1(evaluated: torch.nn.Module) -> float:
        evaluated.eval()
        with torch.no_grad():
            right = sum(int((evaluated(images).argmax(1) == labels).sum()) for images, labels in evaluation)
        return 100 * right / len(val_set)

    curve = []
    for epoch in range(1, r.epochs + 1):
        network.train()
        for images, labels in batches:
            images, targets = mixup(images, labels)
            value = criterion(network(images), targets)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            ema.update(network)
            update += 1
            schedule.step_update(update)
        if epoch % (r.epochs // EVALUATIONS) == 0:
            curve.append((epoch, top1(network), top1(ema.module)))
    return curve


def measure(side: str, model: str, folder: Path, seed: int) -> dict[str, Any]:
    """One training of one side: its accuracies and how long it took. timm's has a process of its own, too."""
    began = time.perf_counter()
    if side == "jaxvision":
        curve = ours(model, folder, folder / f"run{seed}", seed)
    else:
        command = [sys.executable, __file__, "--timm", model, str(folder), str(seed)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        curve = json.loads(done.stdout.strip().splitlines()[-1])
    _, top1, ema_top1 = curve[-1]
    seconds = round(time.perf_counter() - began, 1)
    return {"seed": seed, "top1": top1, "ema_top1": ema_top1, "seconds": seconds, "curve": curve}


def mean_and_deviation(rows: list[dict[str, Any]], key: str) -> str:
    """In percent, of the seeds."""
    values = [row[key] for row in rows]
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.2f}"


def table(results: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    """Markdown lines: accuracies per seed, means and standard deviations, of each model and side."""
    lines = ["| model | side | top-1 % per seed | mean ± deviation | EMA top-1 % per seed | mean ± deviation |"]
    lines.append("|---" * 6 + "|")
    for model, sides in results.items():
        for side, rows in sides.items():
            cells = []
            for key in ("top1", "ema_top1"):
                cells += [", ".join(f"{row[key]:.2f}" for row in rows), mean_and_deviation(rows, key)]
            lines.append(f"| {model} | {side} | " + " | ".join(cells) + " |")
    return lines


def draw(results: dict[str, dict[str, list[dict[str, Any]]]], path: Path) -> None:
    """A picture with a panel for each model: the EMA's top-1 over the epochs, a line for each seed and side."""
    from matplotlib.figure import Figure

    figure = Figure((4.2 * len(results), 3.6), layout="constrained")
    for panel, (model, sides) in zip(figure.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True):
        for side, rows in sides.items():
            for row in rows:
                epochs, _, ema = zip(*row["curve"], strict=True)
                panel.plot(epochs, ema, color=COLORS[side], marker="o", markersize=3, linewidth=1, alpha=0.8)
            panel.plot([], [], color=COLORS[side], label=f"{side}: {mean_and_deviation(rows, 'ema_top1')} %")
        panel.set(title=model, xlabel="epoch", ylabel="top-1 of the EMA, %")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
        panel.legend(loc="lower right")
    figure.suptitle("Top-1 of the 360 test digits, a line for each seed")
    figure.savefig(path, dpi=120)


def main() -> int:
    """Runs the seeds, prints the table and writes the result after every run."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--timm", nargs=3, metavar=("MODEL", "FOLDER", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.timm:
        model, folder, seed = args.timm
        print(json.dumps(theirs(model, Path(folder), int(seed))))
        return 0
    from jaxvision.files import replace_text

    document: dict[str, Any] = {
        "date": date.today().isoformat(), "machine": f"{os.cpu_count()} CPUs, {platform.platform()}",
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "torch", "timm", "pillow")},
        "recipe": f"digits, batch {BATCH}, {WARMUP} epochs of warm-up, cosine, {AUGMENT}, crops of {SCALE}, "
        f"erasing {ERASE}, Mixup {MIXUP}, CutMix {CUTMIX}, smoothing {SMOOTHING}, EMA {EMA}",
        "recipes": {model: dataclasses.asdict(RECIPES[model]) for model in args.models}, "results": {}, "table": [],
    }  # fmt: skip
    path = args.out / f"training_beside_timm_cpu{os.cpu_count()}_{document['date']}.json"
    with tempfile.TemporaryDirectory() as temporary:
        for model in args.models:
            folder = Path(temporary) / model
            make_folder(folder, RECIPES[model].size)
            results: dict[str, list[dict[str, Any]]] = {"jaxvision": [], "timm": []}
            document["results"][model] = results
            for seed in range(args.seeds):
                for side, rows in results.items():
                    row = measure(side, model, folder, seed)
                    rows.append(row)
                    print(
                        f"{model} {side} seed {seed}: top-1 {row['top1']:.2f}, EMA {row['ema_top1']:.2f}, "
                        f"{row['seconds']:.0f} s",
                        flush=True,
                    )
                    document["table"] = table({m: r for m, r in document["results"].items() if all(r.values())})
                    replace_text(path, json.dumps(document, indent=1) + "\n")
            draw(document["results"], path.with_suffix(".png"))
    print("\n".join(document["table"]))
    print(f"written to {path} and {path.with_suffix('.png')}")
    return 0


if __name__ == "__main__":
    command_line.start(main)
