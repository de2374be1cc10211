"""tools/finetune.py: one command from a folder of images to a run that evaluates and predicts by itself."""

import json
import shutil

import cli
import jax
import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision import main
from tools import finetune, predict, validate

NAMES = ["blue", "green", "red"]


def run(tool, *args):
    return tool.main([str(arg) for arg in args])


def fill(root, count):
    rng = np.random.default_rng(0)
    for channel, name in enumerate(reversed(NAMES)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 100, (40, 48, 3), np.uint8)
            image[..., channel] += 120
            Image.fromarray(image).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """A folder of class folders, and weights to start from: the only ones that need no network are random."""
    root = tmp_path_factory.mktemp("colors")
    model = jaxvision.create_model("resnet10t", key=jax.random.key(0))
    jaxvision.save_pretrained(model, root / "model")
    return fill(root / "photos", 20), root / "model" / "model.safetensors"


@pytest.fixture(scope="module")
def tuned(colors, tmp_path_factory):
    """The workdir of a run, and what the tool printed."""
    workdir = tmp_path_factory.mktemp("runs") / "colors"
    status, output = cli.run_tool("finetune.py", *command(colors, workdir))
    assert status == 0, output
    return workdir, output


def command(colors, workdir, *extra):
    folder, weights = colors
    args = [
        folder,
        "--model",
        "resnet10t",
        "--weights",
        weights,
        "--workdir",
        workdir,
        "--image-size",
        32,
        "--lr",
        0.01,
    ]
    return [*map(str, args), "--config.augment.policy=", "--config.optimizer.layer_decay=1", "--epochs=8", *extra]


@pytest.mark.program
def test_a_folder_becomes_a_run_that_knows_its_data(tuned, colors):
    workdir, output = tuned
    assert "48 training images, 12 to evaluate on (a fifth of each class); 3 classes: blue, green, red" in output
    assert "batch 8, 8 epochs, learning rate 0.01, 32 px" in output
    assert output.index("wrote ") < output.index("step 6/48"), "the picture comes before training"
    assert np.asarray(Image.open(workdir / "augment.png")).std() > 20
    assert (workdir / "classes.txt").read_text().splitlines() == NAMES
    config = json.loads((workdir / "config.json").read_text())
    found = {name: config["data"][name] for name in ("name", "dir", "train_split", "fold")}
    assert found == {"name": "folder", "dir": str(colors[0]), "train_split": ".", "fold": "1/5"}
    assert config["schedule"]["warmup_epochs"] == 0.8 and config["augment"]["policy"] == ""
    evaluation = [record for record in cli.log_lines(workdir) if record["kind"] == "eval"][-1]
    assert evaluation["ema_top1"] > 90 and evaluation["examples"] == 12
    assert f"  python tools/predict.py photo.jpg --weights {workdir}\n" in output
    assert f"  python tools/validate.py --weights {workdir} --report {workdir / 'report'}\n" in output


@pytest.mark.program
def test_its_run_is_validated_and_predicts_by_itself(tuned, colors, tmp_path, capsys):
    workdir, _ = tuned
    evaluation = [record for record in cli.log_lines(workdir) if record["kind"] == "eval"][-1]
    expected = f"top-1 {evaluation['ema_top1']:.3f} %"
    assert run(validate, "--weights", workdir) == 0
    assert expected in (out := capsys.readouterr().out) and "12 images of folder fold 1/5" in out
    assert run(validate, workdir) == 0  # the run in the place of a model
    assert expected in capsys.readouterr().out
    moved = tmp_path / "moved"
    shutil.copytree(colors[0], moved)
    assert run(validate, workdir, "--data", moved) == 0
    assert expected in capsys.readouterr().out
    for i in range(10):
        (moved / "red" / f"{i}.png").unlink()
    assert run(validate, workdir, "--data", moved) == 2  # the part set aside would have images of the training
    assert "a part of its data, 12 examples; of " in capsys.readouterr().err
    assert run(validate, workdir, "--data", moved, "--split", ".") == 0
    assert "50 images of folder ." in capsys.readouterr().out
    green = moved / "green"
    for words in ([green, "--weights", workdir], [green, "--model", workdir], [workdir, green]):
        assert run(predict, *words, "--json") == 0
        rows = json.loads(capsys.readouterr().out)
        assert len(rows) == 20 and all(row["top"][0][1] == "green" for row in rows)


@pytest.mark.program
def test_a_run_is_not_resumed_on_grown_data_or_from_other_weights(tuned, colors, tmp_path):
    workdir, photos = shutil.copytree(tuned[0], tmp_path / "run"), shutil.copytree(colors[0], tmp_path / "photos")
    added = colors[0] / "red" / "more.png"
    shutil.copy(photos / "red" / "0.png", added)
    command = ["--config", str(tuned[0]), "--workdir", str(workdir), "--config.epochs=10"]
    try:
        status, output = cli.run(command, quick=True)
    finally:
        added.unlink()
    output = " ".join(output.split())
    assert status == 2 and "has a run on 48 training and 12 evaluation images, the data 48 and 13 now" in output
    words = (photos, "--model", "resnet10t", "--weights", tuned[0], "--workdir", workdir)
    status, output = cli.run_tool("finetune.py", *map(str, words))
    assert status == 2 and "to start from" in output and "choose another --workdir" in " ".join(output.split())


def test_a_short_run_has_a_shorter_warm_up(colors, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(main, "main", lambda recipe: seen.append(main.parse(recipe)[0]) or 0)
    assert finetune.main([*command(colors, tmp_path / "new"), "--epochs=1"]) == 0
    assert seen[0].epochs == 1 and seen[0].schedule.warmup_epochs == 0.1


@pytest.mark.program
def test_a_run_is_fine_tuned_further_at_its_own_size(tuned, tmp_path, capsys):
    workdir, _ = tuned
    folder, out = fill(tmp_path / "photos", 4), tmp_path / "second"
    for split in ("train", "val"):
        shutil.copytree(folder, tmp_path / "divided" / split)
    args = [tmp_path / "divided", "--weights", workdir, "--workdir", out, "--config.steps=2"]
    status, output = cli.run_tool("finetune.py", *map(str, args))
    assert status == 0, output
    assert "12 training images, 12 to evaluate on (val); 3 classes" in output and "8, 100 epochs" in output
    config = json.loads((out / "config.json").read_text())
    assert config["model"]["image_size"] == 32 and config["model"]["name"] == "resnet10t"
    assert config["data"]["eval_split"] == "val" and config["data"]["fold"] == ""
    assert config["optimizer"]["learning_rate"] == 1.3e-4 and config["batch_size"] == 8


@pytest.mark.parametrize(
    "args,message",
    [
        (["absent", "--model", "resnet50"], "no folder "),
        (["photos", "--model", "resnet5"], 'Did you mean "resnet50"'),
        (["photos", "--model", "resnet50", "--weights", "w.pth"], "weights file not found: w.pth"),
        (["photos"], "name a model, --model convnext_tiny"),
        (["photos", "--model", "simple_vit_base_patch16_224"], "nobody publishes weights of"),
        (["photos", "--model", "resnet50", "--config.epoch=3"], 'Did you mean "config.epochs"'),
        (
            ["photos", "--model", "resnet50", "--image-size", "8"],
            "image_size = 8: must be between 32 and 4096",
        ),
        (["photos", "--model", "resnet50", "-b8", "--config.batch_size=16"], "--config.batch_size is given twice"),
        (["photos", "--model", "resnet50"], "images of one class only, 'cat'"),
    ],
)
def test_mistakes_are_one_message_and_leave_nothing(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "cat" / "0.png")
    assert run(finetune, *args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_other_commands_are_named_as_this_one_was_called(monkeypatch, tmp_path):
    assert finetune.command("predict") == "python tools/predict.py"
    monkeypatch.chdir(tmp_path)
    assert finetune.command("predict") == f"python {cli.ROOT / 'tools' / 'predict.py'}"
    monkeypatch.setattr("sys.argv", ["jaxvision finetune", "flowers"])
    assert finetune.command("predict") == "jaxvision predict"


def test_words_that_are_no_fields_are_refused(capsys):
    for args, message in [
        (["a", "--model", "resnet50", "--epoch-s", "3"], "unknown arguments: --epoch-s 3"),
        (["a", "--model", "resnet50", "--config.distributed.processes=2"], "is for one process"),
        (["a", "--model", "resnet50", "--config.data.name=digits"], "the images are those of FOLDER"),
        (["a", "--data", "b", "--model", "resnet50"], "name one folder"),
        (["--model", "resnet50"], "name one folder"),
    ]:
        with pytest.raises(SystemExit):
            run(finetune, *args)
        assert message in capsys.readouterr().err


def test_a_batch_of_the_users_scales_the_rate_that_is_not(colors, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("jaxvision.main.main", lambda argv: flags.extend(argv) or 2)
    monkeypatch.chdir(tmp_path)
    for extra, rate in (["--batch-size=32"], 2.5e-4), (["--config.batch_size=8"], 1.3e-4), (["--lr=1", "-b8"], 1.0):
        flags = []
        words = [colors[0], "--model", "resnet10t", "--weights", colors[1], "--image-size", 32, "--config.epochs=3"]
        assert run(finetune, *words, *extra) == 2
        assert float(next(f for f in flags if "learning_rate" in f).split("=")[1]) == rate
        assert sum("epochs=3" in f for f in flags) == 1 and "--config.schedule.warmup_epochs=0.3" in flags
        assert (tmp_path / "runs" / "photos_resnet10t" / "augment.png").is_file()
