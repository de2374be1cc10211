"""A run knows itself: its folder is all that evaluating, predicting and publishing it need."""

import json
import shutil
from pathlib import Path

import cli
import fake_hub
import numpy as np
import pytest
import torch
from PIL import Image
from reference import nchw, random_images, relative_error, timm

import jaxvision
from jaxvision.run.weights import another_network
from tools import import_torch, predict, publish, validate

pytestmark = pytest.mark.program
NAMES = ["blue", "green", "red"]


def run(tool, *args):
    return tool.main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """Class folders of plain colours, with noise."""
    root, rng = tmp_path_factory.mktemp("flowers"), np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 6)):
        for channel, name in enumerate(reversed(NAMES)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 100, (40, 48, 3), np.uint8)
                image[..., channel] += 120
                Image.fromarray(image).save(folder / f"{i}.png")
    return root


def arguments(flowers, workdir, *extra, model="resnet10t"):
    fields = {
        "model.name": model, "model.image_size": 32, "batch_size": 16, "steps": 30, "augment.policy": "",
        "optimizer.learning_rate": 0.01, "schedule.warmup_epochs": 1.0, "ema.decay": 0.9, "model.drop_path_rate": 0.0,
        "eval.every_epochs": 5.0, "checkpoint.every_steps": 0, "log_every": 10, "replicas": 0,
    }  # fmt: skip
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["--config", f"configs/resnet_rs50.py:folder={flowers}", "--workdir", str(workdir), *flags, *extra]


@pytest.fixture(scope="module")
def finished(flowers, tmp_path_factory):
    """The workdir of a short run."""
    workdir = tmp_path_factory.mktemp("runs") / "flowers"
    status, output = cli.run(arguments(flowers, workdir), quick=True)
    assert status == 0, output
    return workdir


def last_evaluation(workdir):
    records = cli.log_lines(workdir)
    return [record for record in records if record["kind"] == "eval"][-1]


def test_the_folder_has_the_names_of_the_classes(finished):
    assert (finished / "classes.txt").read_text().splitlines() == NAMES


def test_weights_of_a_run_are_exported_without_naming_its_model(finished, tmp_path, capsys):
    assert run(import_torch, "--reverse", "--weights", finished, "--out", tmp_path / "w.safetensors") == 0
    assert "resnet10t: 86 tensors" in capsys.readouterr().out
    assert run(import_torch, "--weights", tmp_path / "w.safetensors", "--out", tmp_path / "x.safetensors") == 2
    assert "does not say which model it is of: name it, MODEL" in capsys.readouterr().err


def test_validate_needs_the_folder_alone(finished, capsys):
    assert run(validate, "--weights", finished) == 0
    out = capsys.readouterr().out
    expected = last_evaluation(finished)
    assert f"top-1 {expected['ema_top1']:.3f} %" in out and "18 images of folder val" in out
    assert "resnet10t (step 30, EMA" in out
    assert run(validate, "--weights", finished, "--raw") == 0
    assert f"top-1 {expected['top1']:.3f} %" in capsys.readouterr().out
    assert run(validate, finished) == 0  # in the model's place
    assert f"top-1 {expected['ema_top1']:.3f} %" in capsys.readouterr().out


def test_validate_matches_classes_by_name(finished, flowers, tmp_path, capsys):
    (tmp_path / "val").mkdir()
    for name in ("red", "blue"):
        (tmp_path / "val" / name).symlink_to(flowers / "val" / name)
    data = ["--data-name", "folder", "--data-dir", tmp_path]
    assert run(validate, "--weights", finished, *data) == 0
    assert "12 images" in (out := capsys.readouterr().out) and "top-1 100.000 %" in out
    (tmp_path / "val" / "yellow").symlink_to(flowers / "val" / "green")
    assert run(validate, "--weights", finished, *data) == 2
    assert "1 of 3 classes of the data are not in the model: yellow" in capsys.readouterr().err
    (tmp_path / "val" / "yellow").unlink()
    assert run(validate, "--weights", finished, "--data-dir", tmp_path) == 0  # of the run's kind
    assert "12 images of folder validation" in capsys.readouterr().out
    assert run(validate, "--weights", finished, "--split", "train") == 0  # the run's folder
    assert "48 images of folder train" in capsys.readouterr().out


def test_predict_needs_the_folder_alone(finished, flowers, capsys):
    assert run(predict, flowers / "val" / "green", "--weights", finished, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 6 and all(row["top"][0][:2] == [1, "green"] for row in rows)
    assert run(predict, flowers / "val" / "green", "--model", finished, "--json") == 0
    assert json.loads(capsys.readouterr().out) == rows


def test_evaluation_takes_the_runs_config_and_no_optimizer(finished, flowers, tmp_path):
    """Nor the class order of the images: a class that is missing there does not shift the others."""
    expected = last_evaluation(finished)
    status, output = cli.run(["--config", str(finished), "--config.mode=eval"], quick=True)
    assert status == 0, output
    found = json.loads((finished / "evaluation.json").read_text())
    assert (found["top1"], found["ema_top1"], found["step"]) == (expected["top1"], expected["ema_top1"], 30)
    (tmp_path / "val").mkdir()
    for name in ("red", "green"):
        (tmp_path / "val" / name).symlink_to(flowers / "val" / name)
    other = [f"--config.data.dir={tmp_path}", "--config.optimizer.name=adamw"]
    status, output = cli.run(["--config", str(finished), "--config.mode=eval", *other], quick=True)
    assert status == 0, output
    found = json.loads((finished / "evaluation.json").read_text())
    assert (found["examples"], found["ema_top1"]) == (12, 100.0)
    assert f"note: 1 of 3 classes of the run of {finished} are not in the data: blue" in output
    lost = tmp_path / "lost"
    shutil.copytree(finished, lost)
    (lost / "classes.txt").unlink()  # the checkpoint has the names, too
    status, output = cli.run(["--config", str(lost), "--config.mode=eval", *other], quick=True)
    assert status == 0 and json.loads((lost / "evaluation.json").read_text())["ema_top1"] == 100.0, output


def test_evaluation_as_another_model_is_refused(finished, flowers):
    other = ["--config.mode=eval", "--config.model.name=resnet14t"]
    status, output = cli.run(["--config", str(finished), *other], quick=True)
    assert status == 2 and f"{finished} is a run of resnet10t, not of resnet14t: write --config {finished}" in output
    assert another_network("deit_tiny_patch16_224", "vit_tiny_patch16_224")
    assert another_network("tf_efficientnet_b0", "tf_efficientnet_b0.ap_in1k")  # normalised in another way
    assert not another_network("resnet18", "resnet18.tv_in1k")


def test_another_model_in_its_workdir_is_refused_in_three_lines(finished, flowers):
    before = (finished / "config.json").read_bytes()
    status, output = cli.run(arguments(flowers, finished, model="resnet14t"), quick=True)
    assert status == 2
    error = output[output.index("error: ") :].strip().splitlines()
    assert len(error) == 3 and "has a run of resnet10t, this command trains resnet14t" in error[0]
    assert error[2] == f"To go on with resnet10t: --config {finished}"
    assert (finished / "config.json").read_bytes() == before


def test_other_classes_in_its_workdir_are_refused(finished, flowers, tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for name in ("red", "green", "blue"):
            other = "rose" if name == "red" else name
            (tmp_path / split / other).symlink_to(flowers / split / name)
    status, output = cli.run(arguments(tmp_path, finished), quick=True)
    assert status == 2
    assert (
        f"{finished} has a run with other classes than this data (only of the run: red; only of the data: rose)"
        in output
    )
    assert (finished / "classes.txt").read_text().splitlines() == NAMES


def test_a_classifier_of_other_classes_is_told(finished, flowers, tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for name in NAMES:
            (tmp_path / split / name.replace("red", "rose")).symlink_to(flowers / split / name)
    extra = [f"--config.model.weights={finished}", "--config.steps=1"]
    args = [a for a in arguments(tmp_path, tmp_path / "run", *extra) if a != "--config.steps=30"]
    status, output = cli.run(args, quick=True)
    told = f"note: the classifier of {finished} is kept, it was trained for other classes (only in these weights: red; "
    assert status == 0 and told + "only in the data: rose)" in output, output


def test_the_checkpoint_has_the_names_too(finished, flowers, tmp_path, capsys):
    """Under its digest: a file of names that was changed, or lost, shifts no label."""
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    (workdir / "classes.txt").write_text("blue\nred\ngreen\n")
    message = (
        f"{workdir}/classes.txt was changed, the checkpoint was trained with other classes: green (in the file red), "
        "red (in the file green). Delete the file"
    )
    assert run(validate, "--weights", workdir) == 2 and message in capsys.readouterr().err
    status, output = cli.run(["--config", str(workdir), "--config.mode=eval"], quick=True)
    assert status == 2 and message in output
    (workdir / "classes.txt").unlink()  # as the message says
    assert run(predict, flowers / "val" / "green", "--weights", workdir, "--json") == 0
    assert {row["top"][0][1] for row in json.loads(capsys.readouterr().out)} == {"green"}
    (tmp_path / "val").mkdir()
    for name, other in (("red", "red"), ("blue", "green"), ("green", "blue")):  # the same names, of other images
        (tmp_path / "val" / name).symlink_to(flowers / "val" / other)
    assert run(validate, "--weights", workdir, "--data-name", "folder", "--data-dir", tmp_path) == 0
    assert "top-1 33.333 %" in capsys.readouterr().out
    rose = tmp_path / "other"
    for split in ("train", "val"):
        (rose / split).mkdir(parents=True)
        for name in NAMES:
            (rose / split / name.replace("red", "rose")).symlink_to(flowers / split / name)
    status, output = cli.run(arguments(rose, workdir), quick=True)
    assert status == 2 and "has a run with other classes than this data (only of the run: red" in output


def test_a_published_run_gives_timm_the_same_answers(finished, tmp_path, capsys):
    assert run(publish, finished, "--out", tmp_path / "out") == 0
    assert "crop_mode crop_first is written as center" in capsys.readouterr().out
    model = jaxvision.create_model(f"local-dir:{tmp_path / 'out'}")
    assert model.spec.class_names == tuple(NAMES) and model.spec.input_size == 32
    reference = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    x = random_images((32, 32), 0)
    with torch.no_grad():
        assert relative_error(model(x), reference(nchw(x)).numpy()) < 1e-4
    text = (tmp_path / "out" / "README.md").read_text()
    expected = last_evaluation(finished)
    assert f"| top1 | {expected['ema_top1']:.4g} |" in text and "- classes: blue, green, red" in text
    assert "![Curves of the training run](curves.png)" in text and (tmp_path / "out" / "curves.png").is_file()
    assert 'model.name = "resnet10t"' in text and "seed" not in text and "data.dir" not in text
    assert "Of this result: crop_mode crop_first is written as center" in text
    assert run(publish, tmp_path / "out", "--out", tmp_path / "x") == 2
    assert "is no workdir of a run" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    before = (finished / "config.json").read_bytes()
    assert run(publish, finished, "--out", finished) == 2
    assert "is the workdir of a training run: choose another folder" in capsys.readouterr().err
    assert (finished / "config.json").read_bytes() == before


def test_weights_by_name_in_tools_and_configs(finished, flowers, tmp_path, monkeypatch, capsys):
    assert run(publish, finished, "--out", tmp_path / "out") == 0
    files = {("me/flowers", file.name): file.read_bytes() for file in Path(tmp_path / "out").iterdir()}
    data = ["--data-name", "folder", "--data-dir", flowers]
    with fake_hub.serve(fake_hub.Hub(files)) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache")}
        fine = ["--config.model.weights=hf-hub:me/flowers", "--config.steps=1"]
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        args = arguments(flowers, tmp_path / "tuned", *fine)
        status, output = cli.run([a for a in args if a != "--config.steps=30"], quick=True)
        assert status == 0, output
        first = last_evaluation(tmp_path / "tuned")
        assert first["step"] == 1 and first["ema_top1"] == 100.0  # untrained it would be 33
        args = arguments(flowers, tmp_path / "other", *fine, model="resnet14t")
        status, output = cli.run([a for a in args if a != "--config.steps=30"], quick=True)
        assert status == 2 and "hf-hub:me/flowers holds a resnet10t, not a resnet14t" in output
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
                            hub.url + "/{repo_id}/resolve/{revision}/{filename}")  # fmt: skip
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache2"))
        assert run(validate, "--weights", "hf-hub:me/flowers", *data) == 0
        assert "top-1 100.000 %" in capsys.readouterr().out
    assert run(predict, flowers / "val" / "red", "--weights", f"local-dir:{tmp_path / 'out'}") == 0
    assert capsys.readouterr().out.count("red (2)") == 6
    assert run(validate, "resnet18", "--weights", f"local-dir:{tmp_path / 'out'}", *data) == 2
    assert "holds a resnet10t, not a resnet18" in capsys.readouterr().err
