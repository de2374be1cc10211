"""tools/probe.py: a network, a folder of images, two accuracies."""

import json

import numpy as np
import pytest
from PIL import Image

from tools import probe
from tools.shared import example


def run(*args):
    return probe.main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Crops of six photos: those to evaluate on are from the right half, the others from the left."""
    root, rng = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    for path in example.photos():
        photo = Image.open(path).convert("RGB")
        middle = photo.width // 2
        for split, left in (("train", 0), ("val", middle)):
            (root / split / path.stem).mkdir(parents=True)
            for i in range(4 if split == "train" else 2):
                side = int(rng.integers(middle // 2, min(middle, photo.height)))
                x = left + int(rng.integers(0, middle - side + 1))
                y = int(rng.integers(0, photo.height - side + 1))
                photo.crop((x, y, x + side, y + side)).resize((96, 96)).save(root / split / path.stem / f"{i}.png")
    return root


@pytest.mark.program
def test_a_trained_network_tells_photos_apart(crops, tmp_path, capsys):
    args = ["--model", example.MODEL, "--weights", example.weights(), "--data", crops, "--image-size", 96]
    assert run(*args, "--out", tmp_path / "probe.json", "--batch-size", 8) == 0
    out = capsys.readouterr().out
    assert "24 training images, 12 to evaluate on; 6 classes, 1280 features" in out
    found = json.loads((tmp_path / "probe.json").read_text())
    assert found["knn"]["top1"] > 60 and found["linear"]["top1"] > 60  # by chance 17
    assert f"top-1 {found['knn']['top1']:.3f} %" in out and f"top-1 {found['linear']['top1']:.3f} %\n" in out
    assert (found["images"], found["training_images"], found["knn"]["neighbours"]) == (12, 24, 20)
    assert found["preprocessing"]["size"] == 96


@pytest.mark.parametrize(
    "args,message",
    [
        (["--data", "absent"], "no folder absent"),
        ([], "name the images: --data FOLDER, or --data-name NAME"),
        (["--data-name", "digits"], "no split 'validation'"),
        (["--data", "absent", "--split", "val"], "no folder absent/train"),
    ],
)
def test_mistakes_are_one_line(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("resnet18", *args) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    for wrong in (["-k", "0"], ["--temperature", "0"], ["--batch-size", "0"]):
        with pytest.raises(SystemExit):
            run("resnet18", "--data", "x", *wrong)
