"""Images in a grid with captions below them, as one picture."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def contact_sheet(images: Sequence[np.ndarray], captions: Sequence[Sequence[str]], side: int = 200) -> Image.Image:
    """The network's inputs, uint8 (H, W, 3), in a grid with the lines of each one's caption below it.

    Args:
      images: in the order of the grid.
      captions: lines of text; the first is the heading, which is broken where it is too long, as the others are cut.
      side: pixels of an image's side in the grid.
    """
    font = ImageFont.load_default(13)
    headings = [broken(caption[0], lambda text: font.getlength(text) <= side) for caption in captions]
    lines = max(len(heading) + len(caption) - 1 for heading, caption in zip(headings, captions, strict=True))
    cell_height = side + 8 + 17 * lines
    columns = min(len(images), max(1, math.ceil(math.sqrt(len(images) * cell_height / side * 1.4))))
    rows = math.ceil(len(images) / columns)
    columns = math.ceil(len(images) / rows)  # six images are two rows of three, not of four and two
    sheet = Image.new("RGB", (columns * (side + 10) + 10, rows * (cell_height + 10) + 10), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (image, heading, caption) in enumerate(zip(images, headings, captions, strict=True)):
        x, y = 10 + (i % columns) * (side + 10), 10 + (i // columns) * (cell_height + 10)
        sheet.paste(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), (x, y))
        for n, line in enumerate([*heading, *caption[1:]]):
            while font.getlength(line) > side:
                line = line[:-2].rstrip(". ") + "."
            color = "black" if n >= len(heading) else "#00458b"
            draw.text((x, y + side + 4 + 17 * n), line, fill=color, font=font)
    return sheet


def broken(path: str, fits: Callable[[str], bool]) -> list[str]:
    """The path in lines that fit: broken after a slash, or inside a name that is too long by itself."""
    lines = [""]
    for part in re.findall("[^/]*/|[^/]+$", path):
        if lines[-1] and not fits(lines[-1] + part):
            lines.append("")
        for letter in part:
            if lines[-1] and not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
    return lines


def short_names(files: Sequence[str]) -> list[str]:
    """The last parts of each path, as few as tell it from all others: "cat/1.jpg" if there is a "dog/1.jpg"."""
    paths = {file: tuple(file.split("/")) for file in files}
    longest = max(map(len, paths.values()), default=0)
    users = {n: collections.Counter(path[-n:] for path in paths.values()) for n in range(1, longest + 1)}

    def shortest(path: tuple[str, ...]) -> str:
        n = next((n for n in range(1, len(path)) if users[n][path[-n:]] == 1), len(path))
        return "/".join(path[-n:])

    return [shortest(paths[file]) for file in files]
