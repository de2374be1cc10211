"""Attacks on what comes from outside: records, images, weights and settings, as disks and strangers damage them."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from jaxvision.errors import UserError
from tools.chaos.attack import Attack, Failure, damage

ROOT = Path(__file__).resolve().parents[2]


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


def _data_set(folder: Path) -> tuple[Path, list[tuple[bytes, int]]]:
    from jaxvision.data import digits

    found = next(path.parent for path in digits.DATA_DIR.rglob("dataset_info.json"))
    copy = Path(shutil.copytree(found, folder / digits.NAME / "1.0.0"))
    return copy, _examples(copy, folder)


def _examples(copy: Path, folder: Path) -> list[tuple[bytes, int] | None]:
    """The test images with their labels, as training reads them; None for one that is refused."""
    from jaxvision.data.tfds import tfds_source

    found: list[tuple[bytes, int] | None] = []
    with _cache(folder):
        source = tfds_source(copy.parent.name, copy.parent.parent, "test")
        for index in range(len(source)):
            try:
                image, label = source.read(index)
                found.append((bytes(image), label))
            except UserError:
                found.append(None)
    return found


def _damaged_data_set(prepared: tuple[Path, list[tuple[bytes, int]]], rng: random.Random, folder: Path) -> str:
    source, expected = prepared
    copy = Path(shutil.copytree(source, folder / source.parent.name / source.name))
    file = rng.choice(sorted(path for path in copy.iterdir() if "train" not in path.name))
    file.write_bytes(damage(file.read_bytes(), rng))
    found = _examples(copy, folder)
    if file.suffix == ".txt":
        return "other names of classes"
    if wrong := [index for index, pair in enumerate(found) if pair not in (None, expected[index])]:
        raise Failure(f"damage of {file.name} gives other examples unnoticed: {wrong[:9]}")
    return "some examples refused" if None in found else "unharmed"


def _arrays(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 8, 8, 3), np.uint8), rng.integers(0, 4, 20)
    np.savez_compressed(folder / "data.npz", train_images=images, train_labels=labels)
    return folder / "data.npz"


def _damaged_arrays(source: Path, rng: random.Random, folder: Path) -> str:
    from jaxvision.data.sources import npz_source

    expected = npz_source(source, "train")
    copy = folder / source.name
    copy.write_bytes(damage(source.read_bytes(), rng))
    found = npz_source(copy, "train")
    if not (np.array_equal(found.images, expected.images) and np.array_equal(found.labels, expected.labels)):
        raise Failure("other images or labels unnoticed")
    return "unharmed"


def _index(folder: Path) -> tuple[Path, list[int]]:
    from jaxvision.data import digits, tfrecord

    file = next(path for path in sorted(digits.DATA_DIR.rglob("*")) if ".tfrecord" in path.name)
    copy = Path(shutil.copy(file, folder / "copy.tfrecord"))
    with _cache(folder):
        return copy, tfrecord.record_offsets(copy).tolist()


@contextlib.contextmanager
def _cache(folder: Path) -> Iterator[Path]:
    """Where offset indices are cached meanwhile."""
    with mock.patch.dict(os.environ, XDG_CACHE_HOME=str(folder / "cache")):
        yield folder / "cache" / "jaxvision" / "index"


def _damaged_index(prepared: tuple[Path, list[int]], rng: random.Random, folder: Path) -> str:
    from jaxvision.data import tfrecord

    file, offsets = prepared
    with _cache(file.parent) as cache, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cached = next(cache.iterdir())
        cached.write_bytes(damage(cached.read_bytes(), rng))
        for attempt in ("at first", "when it was made again"):
            if tfrecord.record_offsets(file).tolist() != offsets:
                raise Failure(f"other offsets {attempt}")
        if len(told) > 1:
            raise Failure("it was not made again")
    return "made again" if told else "unharmed"


def _settings(_: Path) -> list[str]:
    from jaxvision.config import FIELDS

    return list(FIELDS)


def _hostile_settings(names: list[str], rng: random.Random, folder: Path) -> str:
    from jaxvision import main

    texts = (
        "inf", "-inf", "nan", "1e308", "-1", "0", str(10**20), str(2**31), "1" * 400, "", "None", "True", "?",
        "()", "[]", "(inf,)", "('a',)", "(1,2,3)", "[[[]]]", "(('(',1.0),)", "{}", "train[:0]", "../..",
        "/dev/zero", "x" * 5000,
    )  # fmt: skip
    chosen = {name: rng.choice(texts) for name in rng.sample(names, rng.choice((1, 1, 2, 3)))}
    recipe = rng.choice(sorted((ROOT / "configs").glob("*.py")))
    main.parse([f"--config={recipe}", *(f"--config.{name}={text}" for name, text in chosen.items())])
    return "accepted"


def _weights(folder: Path) -> list[Path]:
    import jax
    import safetensors.numpy

    import jaxvision

    model = jaxvision.create_model("resnet10t", num_classes=3, key=jax.random.key(0))
    state = {name: np.asarray(value) for name, value in jaxvision.to_torch(model).items()}
    safetensors.numpy.save_file(state, folder / "model.safetensors")
    if importlib.util.find_spec("torch") is None:
        return [folder / "model.safetensors"]
    import torch

    torch.save({name: torch.tensor(value) for name, value in state.items()}, folder / "model.pth")
    return [folder / "model.safetensors", folder / "model.pth"]


def _damaged_weights(files: list[Path], rng: random.Random, folder: Path) -> str:
    import jaxvision

    file = rng.choice(files)
    # Mostly in the header, where a parser can be led astray; a changed value is as good a weight as any other. A torch
    # file has a pickle at its beginning and an index at its end.
    content = file.read_bytes()
    torch_file = file.suffix == ".pth"
    head = 9000 if torch_file else 8 + int.from_bytes(content[:8], "little")
    copy, where = folder / file.name, rng.random()
    if where < 0.6:
        damaged = damage(content[:head], rng) + content[head:]
    elif where < 0.8 and torch_file:
        damaged = content[:-head] + damage(content[-head:], rng)
    else:
        damaged = damage(content, rng)
    copy.write_bytes(damaged)
    jaxvision.create_model("resnet10t", num_classes=3, weights=copy)
    return "loaded"


ATTACKS = (
    Attack("example", "bytes of a record: parsed or refused", _example, _damaged_example),
    Attack("data set", "bytes of a prepared data set's files: the right examples or none", _data_set,
           _damaged_data_set),
    Attack("npz", "bytes of an .npz file: the right examples or none", _arrays, _damaged_arrays),
    Attack("offset index", "bytes of the cached index of a file of records: made again", _index, _damaged_index),
    Attack("image", "bytes of an image in seven formats: decoded or refused", _images, _damaged_image),
    Attack("weights", "bytes of a safetensors or torch file: loaded or refused", _weights, _damaged_weights),
    Attack("settings", "texts for one to three fields of a recipe: accepted or refused", _settings, _hostile_settings),
)  # fmt: skip
