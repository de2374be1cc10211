"""Trains the same small network with the same recipe here and with timm's parts: are the accuracies within noise?

  python tools/parity/training.py --seeds 3 --out benchmarks/results

The images are the digits as PNG files in class folders, which both sides read. timm's side does in short what its
training script does, which is not in the wheel: its dataset, loader, transforms, RandAugment, random erasing, Mixup,
model, optimizer, scheduler, loss and EMA, in that script's order. The two sides take turns, seed by seed.
"""

from __future__ import annotations

import argparse
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

MODEL, SIZE, BATCH, EPOCHS, WARMUP = "resnet10t", 32, 64, 12, 2
RATE, DECAY, AUGMENT, MIXUP, CUTMIX, ERASE, SMOOTHING, EMA = (
    0.02,
    1e-4,
    "rand-m5-mstd0.5-inc1",
    0.2,
    0.2,
    0.1,
    0.1,
    0.98,
)
SCALE = (0.6, 1.0)


def make_folder(folder: Path) -> None:
    """The digits as ``folder/{train,val}/CLASS/*.png``, four times as large."""
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
            enlarged = Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            enlarged.save(target / f"{i}.png")


def ours(folder: Path, workdir: Path, seed: int) -> dict[str, float]:
    """The result of ``jaxvision.main``."""
    from jaxvision.run.records import read_records

    fields = {
        "seed": seed, "model.name": MODEL, "model.image_size": SIZE, "batch_size": BATCH, "epochs": float(EPOCHS),
        "batch_norm": "global", "data.crop_area": SCALE, "data.resize": "bicubic", "data.repeats": 1,
        "augment.flip": False, "augment.policy": AUGMENT, "augment.erase_prob": ERASE, "augment.mixup": MIXUP,
        "augment.cutmix": CUTMIX, "optimizer.name": "sgd", "optimizer.nesterov": True, "optimizer.learning_rate": RATE,
        "optimizer.weight_decay": DECAY, "schedule.warmup": "after", "schedule.warmup_epochs": float(WARMUP),
        "schedule.per_epoch": False, "schedule.start_learning_rate": 0.0, "schedule.end_learning_rate": 0.0,
        "loss.label_smoothing": SMOOTHING, "ema.decay": EMA, "ema.warmup": False, "eval.image_size": 0,
        "eval.crop_pct": 1.0, "eval.every_epochs": float(EPOCHS), "checkpoint.every_steps": 0, "dtype": "float32",
    }  # fmt: skip
    command = [sys.executable, "-m", "jaxvision.main", "--config", f"configs/seresnext50.py:folder={folder}"]
    command += ["--workdir", str(workdir), *(f"--config.{key}={value}" for key, value in fields.items())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    last = [r for r in read_records(workdir) if r["kind"] == "eval"][-1]
    return {"top1": last["top1"], "ema_top1": last["ema_top1"]}


def theirs(folder: Path, seed: int) -> dict[str, float]:
    """The result of timm's parts with the same recipe, on a CPU."""
    from tools.parity.reference import timm, torch

    from timm import data, loss, scheduler, utils  # isort: skip  (importable after tools.parity.reference)
    from timm import optim as timm_optim  # isort: skip

    torch.set_num_threads(os.cpu_count() or 1)
    utils.random_seed(seed, 0)
    model = timm.create_model(MODEL, num_classes=10)
    optimizer = timm_optim.create_optimizer_v2(model, "sgd", lr=RATE, weight_decay=DECAY, momentum=0.9)
    ema = utils.ModelEmaV3(model, decay=EMA)
    train_set, val_set = (data.create_dataset("", root=str(folder / split)) for split in ("train", "val"))
    common = {"input_size": (3, SIZE, SIZE), "batch_size": BATCH, "num_workers": 0, "device": torch.device("cpu")}
    batches = data.create_loader(
        train_set, is_training=True, scale=SCALE, ratio=(3 / 4, 4 / 3), hflip=0.0, color_jitter=None,
        auto_augment=AUGMENT, re_prob=ERASE, re_mode="pixel", interpolation="bicubic", **common,
    )  # fmt: skip
    evaluation = data.create_loader(val_set, is_training=False, interpolation="bicubic", crop_pct=1.0, **common)
    mixup = data.Mixup(MIXUP, CUTMIX, prob=1.0, switch_prob=0.5, label_smoothing=SMOOTHING, num_classes=10)
    steps = len(batches)
    schedule = scheduler.CosineLRScheduler(
        optimizer, t_initial=(EPOCHS - WARMUP) * steps, warmup_t=WARMUP * steps, warmup_lr_init=0.0,
        warmup_prefix=True, t_in_epochs=False,
    )  # fmt: skip
    criterion, update = loss.SoftTargetCrossEntropy(), 0
    for _ in range(EPOCHS):
        model.train()
        for images, labels in batches:
            images, targets = mixup(images, labels)
            value = criterion(model(images), targets)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            ema.update(model)
            update += 1
            schedule.step_update(update)
    result = {}
    for name, network in (("top1", model), ("ema_top1", ema.module)):
        network.eval()
        with torch.no_grad():
            right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in evaluation)
        result[name] = 100 * right / len(val_set)
    return result


def main() -> int:
    """Runs the seeds, prints the table and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--timm", nargs=2, metavar=("FOLDER", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.timm:
        print(json.dumps(theirs(Path(args.timm[0]), int(args.timm[1]))))
        return 0
    results: dict[str, list[dict[str, Any]]] = {"jaxvision": [], "timm": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_folder(folder)
        for seed in range(args.seeds):
            for side in results:
                began = time.perf_counter()
                if side == "jaxvision":
                    scores = ours(folder, folder / f"run{seed}", seed)
                else:
                    command = [sys.executable, __file__, "--timm", str(folder), str(seed)]
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                    scores = json.loads(done.stdout.strip().splitlines()[-1])
                results[side].append({"seed": seed, **scores, "seconds": time.perf_counter() - began})
                print(f"{side} seed {seed}: top-1 {scores['top1']:.2f}, EMA {scores['ema_top1']:.2f}", flush=True)
    lines = ["| side | top-1 % per seed | mean | EMA top-1 % per seed | mean |", "|---" * 5 + "|"]
    for side, rows in results.items():
        cells = []
        for key in ("top1", "ema_top1"):
            values = [row[key] for row in rows]
            cells += [", ".join(f"{v:.2f}" for v in values), f"{statistics.fmean(values):.2f}"]
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    print("\n".join(lines))
    names = ("jax", "torch", "timm", "pillow")
    settings = (
        f"{MODEL}, {SIZE} px, batch {BATCH}, {EPOCHS} epochs, SGD {RATE}, {AUGMENT}, Mixup {MIXUP}, CutMix {CUTMIX}"
    )
    document = {
        "date": date.today().isoformat(), "machine": f"{os.cpu_count()} CPUs, {platform.platform()}",
        "versions": {name: importlib.metadata.version(name) for name in names}, "recipe": settings,
        "results": results, "table": lines,
    }  # fmt: skip
    from jaxvision.files import replace_text

    path = args.out / f"training_beside_timm_cpu{os.cpu_count()}_{document['date']}.json"
    replace_text(path, json.dumps(document, indent=1) + "\n")
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
