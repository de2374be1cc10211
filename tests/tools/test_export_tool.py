"""tools/export.py: files that run in processes without this library."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from reference import relative_error, trained_like
from sklearn.datasets import load_sample_images

import jaxvision
from tools import export

SIZE = 64
COUNTS = (1, 3, 8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights like trained ones, and the model."""
    file = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.save(trained_like("resnet10t").state_dict(), file)
    return file, jaxvision.create_model("resnet10t", weights=file)


@pytest.fixture(scope="module")
def pixels():
    """Eight images, uint8: two photos, each also mirrored, and random ones."""
    settings = jaxvision.preprocessing.preprocessing(jaxvision.model_spec("resnet10t"), size=SIZE)
    photos = [settings.load(photo) for photo in load_sample_images().images]
    noise = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    return np.stack([*photos, *(photo[:, ::-1] for photo in photos), *noise])


def run(*args):
    return export.main([str(arg) for arg in args])


def logits_of_readme(folder, images, blocked):
    """What the lines of README.md compute in a process that cannot import ``blocked``, for each number of images."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    load, _, call = code.partition("images = ")
    np.save(folder.parent / "images.npy", images)
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n{load}\nfor count in {COUNTS}:\n"
        f"    images = numpy.load('../images.npy')[:count]\n    {call.splitlines()[1]}\n"
        "    numpy.save(f'../{count}.npy', logits)\n"
        "assert not [name for name, module in sys.modules.items() if name.startswith('jaxvision') and module]"
    )
    # -I: neither PYTHONPATH nor the working folder.
    done = subprocess.run([sys.executable, "-I", "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [np.load(folder.parent / f"{count}.npy") for count in COUNTS]


@pytest.mark.program
@pytest.mark.parametrize("uint8", [True, False], ids=["uint8", "float32"])
def test_stablehlo_runs_without_this_library(weights, pixels, tmp_path, capsys, uint8):
    file, model = weights
    folder, settings = tmp_path / "out", jaxvision.preprocess(model)
    extra = ["--uint8"] if uint8 else []
    args = ["--weights", file, "--format", "stablehlo", "--dir", folder, "--image-size", SIZE, *extra]
    assert run("resnet10t", *args) == 0
    images = pixels if uint8 else np.asarray(settings.normalise(pixels))
    expected = model(settings.normalise(pixels))
    for logits in logits_of_readme(folder, images, ("jaxvision", "tools", "flax", "torch")):
        assert relative_error(logits, expected[: len(logits)]) < 1e-4
    described = json.loads((folder / "export.json").read_text())
    assert described["input"]["shape"] == ["batch", SIZE, SIZE, 3] and described["input"]["dtype"] == str(images.dtype)
    assert ("inside" in described["input"]["values"]) == uint8 == ("mean" not in described["input"]["values"])
    assert described["class_names"][0] == "tench" and len(described["class_names"]) == 1000
    assert described["platforms"] == ["cpu", "cuda", "tpu"] and "6 months newer" in described["compatibility"]
    assert re.search(r"model.stablehlo \(2\d MiB\), export.json, README.md", capsys.readouterr().out)


@pytest.mark.program
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_onnx_runs_without_this_library_and_jax(weights, pixels, tmp_path, layout):
    file, model = weights
    folder, settings = tmp_path / "out", jaxvision.preprocess(model)
    extra = ["--nchw", "--uint8"] if layout == "NCHW" else []
    args = ["--weights", file, "--format", "onnx", "--dir", folder, "--image-size", SIZE, *extra]
    assert run("resnet10t", *args) == 0
    images = pixels.transpose(0, 3, 1, 2) if extra else np.asarray(settings.normalise(pixels))
    expected = model(settings.normalise(pixels))
    for logits in logits_of_readme(folder, images, ("jaxvision", "tools", "jax", "torch")):
        assert relative_error(logits, expected[: len(logits)]) < 1e-4
    described = json.loads((folder / "export.json").read_text())
    assert described["input"]["layout"] == layout and described["opset"] == 21


def test_nothing_is_written_where_the_logits_differ(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jaxvision.fuse", lambda model: model.replace(params=_scaled(model.params)))
    args = ["resnet10t", "--weights", weights[0], "--format", "stablehlo", "--dir", tmp_path / "out"]
    assert run(*args, "--image-size", SIZE) == 2
    assert "logits differ from the model's by 1.0e-03" in capsys.readouterr().err and not (tmp_path / "out").exists()


def _scaled(params):
    return params | {"fc": {name: 1.001 * leaf for name, leaf in params["fc"].items()}}


def test_mistakes_are_named_before_the_work_begins(weights, tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.txt").write_text("")
    args = ["resnet10t", "--weights", weights[0], "--format", "stablehlo", "--dir"]
    assert run(*args, tmp_path) == 2
    assert "holds other files (mine.txt)" in capsys.readouterr().err
    assert run(*args, tmp_path / "out", "--platforms", "cpu,gpu") == 2
    assert "expected some of cpu, cuda, rocm, tpu" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(*args, tmp_path / "out") == 2
    assert "this needs flatbuffers: pip install -e '.[export]'" in capsys.readouterr().err
    assert run(*args[:3], "--format", "onnx", "--dir", tmp_path / "out") == 2
    assert "needs jax2onnx and onnx and onnxruntime: pip install -e '.[export]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
