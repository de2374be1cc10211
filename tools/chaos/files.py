"""Attacks on files: checkpoints, records, examples, images and weights, damaged as disks and strangers damage them."""

from __future__ import annotations

import io
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tools.chaos.attack import Attack, Failure, damage

STEPS = (2, 5, 9)


def _state(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {
        "params.conv.weight": rng.standard_normal((16, 3, 3, 3), np.float32),
        "params.fc.bias": rng.standard_normal(900, np.float32),
        "step": np.array(step, np.int32),
    }


def _checkpoints(folder: Path) -> Path:
    from jaxvision.run.checkpoint import Checkpointer

    made = Checkpointer(folder / "checkpoints", keep=len(STEPS), warn=print)
    for step in STEPS:
        made.save(step, _state(step), {"note": step}, score=step / 10)
    made.close()
    return folder / "checkpoints"


def _restored(folder: Path) -> str:
    """Restores, and saves once more; the newest state, or with a warning an earlier one, has to be right."""
    from jaxvision.run.checkpoint import Checkpointer

    warnings: list[str] = []
    checkpoints = Checkpointer(folder, keep=len(STEPS), warn=warnings.append)
    try:
        found = checkpoints.restore(_state(0))
        if found is None:
            raise Failure("no checkpoint is seen")
        flat, meta, step = found
        expected = _state(step)
        wrong = [name for name in expected if flat[name].tobytes() != expected[name].tobytes()]
        if wrong or meta != {"note": step}:
            raise Failure(f"step {step} was restored with a wrong {', '.join(wrong) or 'note'}")
        if step != STEPS[-1] and not warnings:
            raise Failure(f"step {step} was restored without a warning")
        checkpoints.save(20, _state(20), {"note": 20})
    finally:
        closed = checkpoints.close()
    if not closed:
        raise Failure("the next checkpoint cannot be saved")
    return "unharmed" if step == STEPS[-1] else "fell back"


def _files(folder: Path) -> list[Path]:
    """All files, in an order that does not depend on Orbax's random names."""
    return sorted(
        (path for path in folder.rglob("*") if path.is_file()),
        key=lambda path: (len(path.parts), path.stat().st_size, path.name),
    )


def _damaged_checkpoint(source: Path, rng: random.Random, folder: Path) -> str:
    copy = shutil.copytree(source, folder / "checkpoints")
    newest = copy / f"step_{STEPS[-1]}"
    file = rng.choice(_files(newest))
    if rng.random() < 0.15:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes(), rng))
    return _restored(copy)


def _rearranged_checkpoint(source: Path, rng: random.Random, folder: Path) -> str:
    copy = shutil.copytree(source, folder / "checkpoints")
    newest = copy / f"step_{STEPS[-1]}"
    path = rng.choice(_files(newest))
    match rng.randrange(7):
        case 0:
            path.unlink()
            path.mkdir()
        case 1:
            path.unlink()
            os.mkfifo(path)
        case 2:
            path.unlink()
            path.symlink_to(rng.choice(("/dev/zero", "nowhere", path.name)))
        case 3:
            newest.rename(copy / f"step_{rng.choice((7, 1000, 10**12))}")
        case 4:
            shutil.copytree(copy / f"step_{STEPS[0]}", copy / f"step_{rng.choice((11, 77))}")
        case 5:
            (copy / rng.choice(("step_11", "step_x", "junk", "step_-1"))).mkdir()
        case _:
            (copy / rng.choice(("step_11", "step_x", "junk"))).write_text("junk")
    return _restored(copy)


def _log(folder: Path) -> tuple[bytes, list[dict[str, Any]]]:
    from jaxvision.run.records import RunLog

    log = RunLog(folder, columns=("loss", "accuracy"), resume_step=0, evaluated=True, warn=print)
    for step in range(1, 20):
        log.write("train", step, {"loss": 2.0 / step, "accuracy": 3.7 * step})
    log.close()
    return (folder / "metrics.jsonl").read_bytes(), log.records


def _damaged_log(prepared: tuple[bytes, list[dict[str, Any]]], rng: random.Random, folder: Path) -> str:
    from jaxvision.run.records import RunLog

    content, written = prepared
    damaged = damage(content, rng)
    (folder / "metrics.jsonl").write_bytes(damaged)
    warnings: list[str] = []
    log = RunLog(folder, columns=("loss", "accuracy"), resume_step=99, evaluated=True, warn=warnings.append)
    log.close()
    if strange := [record for record in log.records if record not in written]:
        raise Failure(f"a changed record was taken: {strange[0]}")
    whole_lines_only = damaged in (content[: i + 1] for i, byte in enumerate(content) if byte == 10)
    if len(log.records) < len(written) and not warnings and not whole_lines_only and damaged:
        raise Failure(f"{len(written) - len(log.records)} records are gone without a warning")
    return "named" if warnings else "unharmed"


def _example(_: Path) -> bytes:
    from jaxvision.data import digits

    file = next(path for path in sorted(digits.DATA_DIR.rglob("*")) if ".tfrecord" in path.name)
    data = file.read_bytes()
    return data[12 : 12 + int.from_bytes(data[:8], "little")]


def _damaged_example(record: bytes, rng: random.Random, folder: Path) -> str:
    from jaxvision.data.tfrecord import parse_example

    parse_example(damage(record, rng), "image", "label")
    return "parsed"  # checksums, not the parser, tell values that were changed


def _images(_: Path) -> list[bytes]:
    from PIL import Image

    rng, found = np.random.default_rng(0), []
    smooth = Image.fromarray(rng.integers(0, 256, (6, 7, 3), np.uint8)).resize((64, 48))
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        for mode in ("RGB", "L"):
            file = io.BytesIO()
            smooth.convert(mode).save(file, form)
            found.append(file.getvalue())
    return found


def _damaged_image(images: list[bytes], rng: random.Random, folder: Path) -> str:
    from jaxvision.data.decode import Scratch, decode

    try:
        image = decode(damage(rng.choice(images), rng), Scratch())
    except ValueError:
        return "refused"
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise Failure(f"decoded to {image.dtype} {image.shape}")
    return "decoded"


def _weights(folder: Path) -> list[Path]:
    import jax
    import safetensors.numpy

    import jaxvision

    model = jaxvision.create_model("resnet10t", num_classes=3, key=jax.random.key(0))
    state = {name: np.asarray(value) for name, value in jaxvision.to_torch(model).items()}
    safetensors.numpy.save_file(state, folder / "model.safetensors")
    return [folder / "model.safetensors"]


def _damaged_weights(files: list[Path], rng: random.Random, folder: Path) -> str:
    import jaxvision

    file = rng.choice(files)
    # Mostly in the header, where a parser can be led astray; a changed value is as good a weight as any other.
    content = file.read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    copy = folder / file.name
    copy.write_bytes(damage(content[:head], rng) + content[head:] if rng.random() < 0.8 else damage(content, rng))
    jaxvision.create_model("resnet10t", num_classes=3, weights=copy)
    return "loaded"


ATTACKS = (
    Attack("checkpoint, damaged", "bytes of the newest: that state or, told, the one before", _checkpoints,
           _damaged_checkpoint),
    Attack("checkpoint, rearranged", "pipes, links, renamed and strange folders: the same", _checkpoints,
           _rearranged_checkpoint),
    Attack("metrics.jsonl", "no changed record is taken, no record is lost unnoticed", _log, _damaged_log),
    Attack("example", "bytes of a record: parsed or refused", _example, _damaged_example),
    Attack("image", "bytes of an image in seven formats: decoded or refused", _images, _damaged_image),
    Attack("weights", "bytes of a safetensors file: loaded or refused", _weights, _damaged_weights),
)  # fmt: skip
