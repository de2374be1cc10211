"""tools/probe.py: a network, a folder of images, two accuracies."""

import json

import pytest

from tools import probe
from tools.shared import example


def run(*args):
    return probe.main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The folder of the tutorial with fewer images: those to evaluate on show another half of each photo."""
    root = tmp_path_factory.mktemp("example") / "photos"
    example.write_folder(root, train=4, evaluation=2)
    return root


@pytest.mark.program
def test_a_trained_network_tells_photos_apart(photos, tmp_path, capsys):
    args = ["--model", example.MODEL, "--weights", example.weights(), "--data", photos, "--image-size", 96]
    assert run(*args, "--out", tmp_path / "probe.json", "--batch-size", 8) == 0
    out = capsys.readouterr().out
    assert "48 training images, 24 to evaluate on; 12 classes, 1280 features" in out
    found = json.loads((tmp_path / "probe.json").read_text())
    assert found["knn"]["top1"] > 60 and found["linear"]["top1"] > 60  # by chance 8
    assert f"top-1 {found['knn']['top1']:.3f} %" in out and f"top-1 {found['linear']['top1']:.3f} %\n" in out
    assert (found["images"], found["training_images"], found["knn"]["neighbours"]) == (24, 48, 20)
    assert found["preprocessing"]["size"] == 96


def test_the_folder_of_the_tutorial(tmp_path, capsys):
    assert example.main([str(tmp_path / "photos")]) == 0
    files = list((tmp_path / "photos").glob("*/*/*.jpg"))
    assert len(files) == 480 and "of each of 12 classes" in capsys.readouterr().out
    assert example.main([str(tmp_path / "photos")]) == 2  # nothing is overwritten
    assert "is there already" in capsys.readouterr().err


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
