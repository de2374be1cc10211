"""Image files: which are looked for in folders, and how one is read without waiting for it or filling the memory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

# Of the files that folders are searched for.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif")
# Larger files are not read: ImageNet's largest has 15 MB, and a sparse file may claim any size.
MOST_BYTES = 2**28
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_image_file(path: str | Path) -> bytes:
    """The content of a regular file, or of a link to one.

    Raises:
      OSError: it cannot be opened or read.
      ValueError: it is a pipe or a device, which could make the reader wait forever or read without end, or is larger
        than an encoded image is.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # without O_NONBLOCK, opening a pipe waits for a writer
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"not a regular file but {_KINDS.get(stat.S_IFMT(status.st_mode), 'of another kind')}")
        if status.st_size > MOST_BYTES:
            raise ValueError(f"a file of {status.st_size} bytes: at most {MOST_BYTES} are read")
        data = os.read(descriptor, status.st_size)
        while len(data) < status.st_size and (more := os.read(descriptor, status.st_size - len(data))):
            data += more  # some network file systems return less than was asked for
        return data
    finally:
        os.close(descriptor)
