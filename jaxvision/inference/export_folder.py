"""The folder of an exported model: the program, ``export.json`` that describes it, and a README that runs it."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from jaxvision.errors import UserError, listed
from jaxvision.files import check_folder, replace_file
from jaxvision.inference.export import ImageInput

STABLEHLO, ONNX = "model.stablehlo", "model.onnx"
DESCRIPTION, README = "export.json", "README.md"
FILES = {STABLEHLO, ONNX, DESCRIPTION, README}

# https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees
WINDOW = (
    "JAX promises to read this file with every release that is at most 6 months newer, or 3 weeks older, than the jax "
    "and jaxlib that made it; counted from their releases, not from today. The release that made it always reads it"
)


_INCOMPLETE = ".export-"


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Checks that an export can be written to a folder, before the work begins.

    Args:
      folder: need not exist.
      overwrite: whether an export that is there may be replaced.

    Raises:
      UserError: it holds other files, an export that must not be replaced, or is no folder.
    """
    check_folder(folder)
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.exists() else set()
    others = sorted(found - FILES) or (sorted(found) if DESCRIPTION not in found else [])
    if others:
        raise UserError(f"{folder} holds other files ({listed(others, 5)}): choose an empty or new folder")
    if found and not overwrite:
        raise UserError(f"{folder} holds an export: choose another folder, or --force to replace it")


def write(folder: Path, files: Mapping[str, bytes], *, overwrite: bool) -> None:
    """Writes all files of an export, or none.

    Args:
      folder: is created; see :func:`check_target`.
      files: names, of :data:`FILES`, and contents.
      overwrite: whether an export that is there is replaced.

    Raises:
      UserError: as :func:`check_target`.
      OSError: the folder cannot be written to; what was there stays.
    """
    check_target(folder, overwrite=overwrite)
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    for abandoned in folder.glob(f"{_INCOMPLETE}*"):  # of an export that was killed
        shutil.rmtree(abandoned, ignore_errors=True)
    incomplete = folder / f"{_INCOMPLETE}{secrets.token_hex(4)}"
    try:
        for name, content in files.items():
            replace_file(incomplete / name, lambda file, content=content: file.write_bytes(content))
        for name in files:
            (incomplete / name).replace(folder / name)
        for name in FILES - set(files):
            (folder / name).unlink(missing_ok=True)  # of an export in another format
    finally:
        shutil.rmtree(incomplete, ignore_errors=True)
        if new and not any(folder.iterdir()):
            with contextlib.suppress(OSError):
                folder.rmdir()


def input_in_words(images: ImageInput, mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """What a value of an image is."""
    if images.normalise is not None:
        return "RGB from 0 to 255; the normalisation is inside"
    per_channel = (", ".join(f"{value:g}" for value in values) for values in (mean, std))
    return "(RGB / 255 - mean) / std with mean {} and std {}".format(*per_channel)


def readme(
    title: str, file: str, images: ImageInput, *, pixels: str, resizing: str, num_classes: int, notes: str = ""
) -> bytes:
    """The README of the folder: what the program takes and returns, and the lines that run it.

    Args:
      title: names the model.
      file: :data:`STABLEHLO` or :data:`ONNX`.
      images: what the program takes.
      pixels: what a value of an image is; see :func:`input_in_words`.
      resizing: how a picture becomes an image of this size.
      num_classes: logits of an image.
      notes: a paragraph below the code.
    """
    count = images.batch or 8
    zeros = f"numpy.zeros({images.laid_out((count, *images.size, images.channels))}, numpy.{images.dtype})"
    shape = "({}, {}, {}, {})".format(*images.laid_out(("N", *images.size, images.channels)))
    several = "any number of images" if images.batch is None else f"{images.batch} images"
    package, code = {
        STABLEHLO: (
            "jax flatbuffers",
            "import jax, jax.export, numpy, pathlib\n\n"
            f'program = jax.export.deserialize(bytearray(pathlib.Path("{STABLEHLO}").read_bytes()))\n'
            f"classify = jax.jit(program.call)\nimages = {zeros}\nlogits = classify(images)\n",
        ),
        ONNX: (
            "onnxruntime",
            "import numpy, onnxruntime\n\n"
            f'session = onnxruntime.InferenceSession("{ONNX}", providers=["CPUExecutionProvider"])\n'
            f'images = {zeros}\nlogits = session.run(["logits"], {{"images": images}})[0]\n',
        ),
    }[file]
    how = f"An image classifier, exported by jaxvision. It runs without jaxvision (`pip install {package}`):"
    facts = [
        f"- `images`: {images.dtype} {shape}, {several}, layout {images.layout}: {pixels}",
        f"- how a picture becomes an image: {resizing}",
        f"- `logits`: float32 (N, {num_classes}); the names of the classes are in `{DESCRIPTION}`",
    ]
    parts = [f"# {title}", how, f"```python\n{code}```", "\n".join(facts), *([notes] if notes else [])]
    return ("\n\n".join(parts) + "\n").encode()
