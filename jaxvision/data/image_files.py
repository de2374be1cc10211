"""Image files: which are looked for in folders, and how one is read without waiting for it or filling the memory."""

from __future__ import annotations

from pathlib import Path

from jaxvision.files import read_regular

# Of the files that folders are searched for.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif")
# Larger files are not read: ImageNet's largest has 15 MB, and a sparse file may claim any size.
MOST_BYTES = 2**28


def is_visible(name: str) -> bool:
    """Whether a name is not hidden, as macOS names what is no image, ``._photo.jpg``, nor its folder ``__MACOSX``."""
    return not name.startswith(".") and name != "__MACOSX"


def read_image_file(path: str | Path) -> bytes:
    """The content of a regular file of at most :data:`MOST_BYTES`.

    Raises:
      OSError, ValueError: see :func:`jaxvision.files.read_regular`.
    """
    return read_regular(path, most=MOST_BYTES)
