"""Measures the host's part of training input against timm: images per CPU-second, and memory: ``make bench-input``.

  make bench-input                      # all pipelines, 5 interleaved rounds, result under benchmarks/results/
  make bench-input ARGS="--rounds 1 --images 512"

Every pipeline runs in a process of its own, rounds interleaved. The main figure is images per CPU-second of the whole
process tree, which repeats within some percent on a loaded machine where wall time does not. timm's side does
RandAugment on the host, as it must; ours does the same recipe's RandAugment on the device, which is not host work. The
images are made here: 1/f color noise with the sizes and bytes of ImageNet photos.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PIL import Image

from tools.shared import command_line

if TYPE_CHECKING:
    import psutil

ROOT = Path(__file__).resolve().parents[2]
SIZE, BATCH, WORKERS = 224, 128, 2
SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")
RAND = "rand-m9-mstd0.5-inc1"
PIPELINES = (
    "jaxvision filter, TFRecord",
    "jaxvision filter, folder",
    "jaxvision area, folder",
    "jaxvision bicubic, folder",
    "jaxvision linear, folder",
    "timm PIL, folder",
    f"timm PIL {RAND}, folder",
    "timm ReaderTfds, TFRecord",
)


def make_images(folder: Path, count: int) -> None:
    """Writes ``count`` JPEGs as a class folder, where :func:`make_data` has not done so."""
    if (folder / "done").exists() or (folder / "images" / "done").exists():
        return
    rng = np.random.default_rng(0)
    for i in range(count):
        wnid = SYNSETS[i % len(SYNSETS)]
        (folder / "images" / "train" / wnid).mkdir(parents=True, exist_ok=True)
        (folder / "images" / "train" / wnid / f"{wnid}_{i}.JPEG").write_bytes(photo(rng))
    (folder / "images" / "done").touch()


def make_data(folder: Path, count: int) -> None:
    """Writes ``count`` JPEGs as a class folder and, through the real tfds builder, as TFRecords."""
    if (folder / "done").exists():
        return
    (folder / "tars").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "tars" / "train.tar", "w") as train:
        for c, wnid in enumerate(SYNSETS):
            (folder / "images" / "train" / wnid).mkdir(parents=True, exist_ok=True)
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for i in range(c, count, len(SYNSETS)):
                    data = photo(rng)
                    (folder / "images" / "train" / wnid / f"{wnid}_{i}.JPEG").write_bytes(data)
                    add(tar, f"{wnid}_{i}.JPEG", data)
            add(train, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(folder / "tars" / "val.tar", "w") as val:
        for i in range(1, 17):
            add(val, f"ILSVRC2012_val_{i:08d}.JPEG", photo(rng))
    subprocess.run(
        [sys.executable, ROOT / "tools" / "prepare_imagenet.py", "--train", folder / "tars" / "train.tar",
         "--val", folder / "tars" / "val.tar", "--out", folder / "tfds", "--shards", "8", "--allow-partial"],
        check=True, capture_output=True)  # fmt: skip
    (folder / "done").touch()


def photo(rng: np.random.Generator) -> bytes:
    """One JPEG of about 110 KB and 400 x 500 pixels: 1/f noise per channel, correlated colors."""
    height, width = (int(v) for v in rng.normal((400, 480), (60, 60)).clip(200, 700))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** 0.95
    noise = rng.standard_normal((3, *amplitude.shape)) + 1j * rng.standard_normal((3, *amplitude.shape))
    field = np.fft.irfft2((noise + noise[:1]) * amplitude, (height, width))
    field = (field - field.mean()) / field.std() * 55 + 120
    buffer = io.BytesIO()
    Image.fromarray(field.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(buffer, "JPEG", quality=87)
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A file from memory into a tar."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def jaxvision_batches(pipeline: str, folder: Path, threads: int = WORKERS) -> Iterator[dict[str, np.ndarray]]:
    """Batches of our loader, endless."""
    from jaxvision.data import decode, loader, plan, sources

    if "TFRecord" in pipeline:
        source: sources.Source = sources.tfds_source("imagenet2012", folder / "tfds", "train")
    else:
        source = sources.FolderSource(folder / "images", "train")
    transform = decode.train_transform(
        size=SIZE, crop="torch", area=(0.08, 1.0), ratio=(3 / 4, 4 / 3), resize=pipeline.split()[1].strip(","),
        crop_pct=0.875, interpolation="bicubic")  # fmt: skip
    order = plan.Plan(len(source), BATCH, seed=0, train=True)
    return loader.Loader(source, order, transform, size=SIZE, threads=threads).batches(0, 1 << 30)


def timm_loader(pipeline: str, folder: Path, *, workers: int, device: Any) -> Any:
    """timm's loader and its prefetcher, which normalises on the device."""
    from tools.parity.reference import timm

    options = {"root": str(folder / "images" / "train")}
    name = ""
    if "Tfds" in pipeline:
        options = {"root": str(folder / "tfds"), "split": "train", "is_training": True, "batch_size": BATCH}
        name = "tfds/imagenet2012"
    dataset = timm.data.create_dataset(name, **options)
    return timm.data.create_loader(
        dataset, (3, SIZE, SIZE), BATCH, is_training=True, no_aug=False, hflip=0.5, color_jitter=0.0,
        auto_augment=RAND if RAND in pipeline else None, interpolation="bilinear", num_workers=workers,
        use_prefetcher=True, persistent_workers=True, device=device)  # fmt: skip


def timm_batches(pipeline: str, folder: Path) -> Iterator[int]:
    """Batch sizes of timm's loader (uint8 batches by its own fast collate), endless."""
    from tools.parity.reference import torch

    loader = timm_loader(pipeline, folder, workers=WORKERS, device=torch.device("cpu"))
    while True:
        # Below the prefetcher, whose normalisation is device work.
        for images, _ in loader.loader:
            yield len(images)


def worker(pipeline: str, folder: Path, images: int) -> dict[str, float]:
    """Measures one pipeline in this process: CPU-seconds of the tree, wall time, peak proportional memory."""
    began = time.perf_counter()
    if pipeline.startswith("jax"):
        batches = (len(batch["label"]) for batch in jaxvision_batches(pipeline, folder))
    else:
        batches = timm_batches(pipeline, folder)
    next(batches)
    first = time.perf_counter() - began
    peak = [0.0]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            peak[0] = max(peak[0], sum(memory(p) for p in tree()))

    thread = threading.Thread(target=watch, daemon=True)
    cpu, wall, done = cpu_seconds(), time.perf_counter(), 0
    thread.start()
    while done < images:
        done += next(batches)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    stop.set()
    thread.join()
    peak[0] = max(peak[0], sum(memory(p) for p in tree()))
    return {"images": done, "cpu_s": cpu, "wall_s": wall, "first_batch_s": first, "pss_mb": peak[0] / 2**20}


def tree() -> list[psutil.Process]:
    """This process and its descendants."""
    import psutil

    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def memory(process: psutil.Process) -> float:
    """Proportional set size: shared pages are divided among their users."""
    import psutil

    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0.0


def cpu_seconds() -> float:
    """User and system time of the tree, of processes that ended too."""
    times = [p.cpu_times() for p in tree()]
    ended = os.times()
    return sum(t.user + t.system for t in times) + ended.children_user + ended.children_system


def main() -> int:
    """Runs the rounds and writes the result; returns the exit status."""
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--data-dir", "--data", dest="data", type=Path, default=Path("data/bench_input"),
        help="where the images are made",
    )  # fmt: skip
    parser.add_argument("--count", type=int, default=1024, help="images to make")
    parser.add_argument("--images", type=int, default=1536, help="images measured per pipeline and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--worker", choices=PIPELINES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(worker(args.worker, args.data, args.images)))
        sys.stdout.flush()
        os._exit(0)  # tfds's threads do not end by themselves

    make_data(args.data, args.count)
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in PIPELINES}
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    for round_ in range(args.rounds):
        for name in PIPELINES:
            command = [sys.executable, __file__, "--worker", name, "--data", args.data, "--images", str(args.images)]
            result = subprocess.run(command, env=environment, capture_output=True, text=True)
            if result.returncode:
                print(f"{name} failed: {result.stderr[-2000:]}", file=sys.stderr)
                return 1
            samples[name].append(json.loads(result.stdout.strip().splitlines()[-1]))
            sample = samples[name][-1]
            rate = sample["images"] / sample["cpu_s"]
            print(f"round {round_ + 1}/{args.rounds}  {name:<40} {rate:7.0f} img/CPU-s", flush=True)
    report(samples, args)
    return 0


def report(samples: dict[str, list[dict[str, float]]], args: argparse.Namespace) -> None:
    """Prints the table and writes the JSON."""

    def rate(sample: dict[str, float]) -> float:
        return sample["images"] / sample["cpu_s"]

    def median(name: str, key: str) -> float:
        return statistics.median(s[key] for s in samples[name])

    def ratio(a: str, b: str, of: Callable[[dict[str, float]], float]) -> list[float]:
        paired = sorted(of(x) / of(y) for x, y in zip(samples[a], samples[b], strict=True))
        return [statistics.median(paired), paired[0], paired[-1]]

    bases = [f"timm PIL {RAND}, folder", "timm PIL, folder", "timm ReaderTfds, TFRecord"]
    lines = [
        "| pipeline | img/CPU-s | vs timm PIL + RandAugment | vs timm PIL | vs ReaderTfds | img/s wall | PSS MB "
        "| first batch s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in PIPELINES:
        ratios = [ratio(name, base, rate) for base in bases]
        cells = " | ".join(f"{m:.2f} [{low:.2f}-{high:.2f}]" for m, low, high in ratios)
        wall = statistics.median(s["images"] / s["wall_s"] for s in samples[name])
        lines.append(
            f"| {name} | {statistics.median(map(rate, samples[name])):.0f} | {cells} | {wall:.0f} "
            f"| {median(name, 'pss_mb'):.0f} | {median(name, 'first_batch_s'):.1f} |"
        )
    print("\n".join(lines))
    packages = (
        "jax",
        "numpy",
        "pillow",
        "simplejpeg",
        "opencv-python-headless",
        "torch",
        "timm",
        "tensorflow-datasets",
    )
    document = {
        "date": datetime.date.today().isoformat(),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()},
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "settings": {"size": SIZE, "batch": BATCH, "workers": WORKERS, "count": args.count, "images": args.images},
        "samples": samples,
        "table": lines,
    }
    from jaxvision.files import replace_text

    path = args.out / f"input_cpu{os.cpu_count()}_{document['date']}.json"
    replace_text(path, json.dumps(document, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    command_line.start(main)
