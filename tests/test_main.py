"""Bad input gets one clear message and a non-zero status, never a traceback."""

import random
import string
from pathlib import Path

import cli
import pytest

from jaxvision import config as config_lib
from jaxvision.errors import UserError
from jaxvision.main import batch_note, main, parse
from jaxvision.train import build, compilation

FIELDS = sorted(config_lib.FIELDS)


def failure(capsys, *args):
    status = main(list(args))
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.startswith("error: ") and "Traceback" not in captured.err
    return captured.err.removeprefix("error: ").strip()


def typos(name, rng):
    """One of each kind of one-character slip: deletion, insertion, substitution, transposition."""
    i = rng.randrange(len(name))
    letter = rng.choice(string.ascii_lowercase)
    swapped = name[:i] + name[i + 1 : i + 2] + name[i : i + 1] + name[i + 2 :]
    candidates = [name[:i] + name[i + 1 :], name[:i] + letter + name[i:], name[:i] + letter + name[i + 1 :], swapped]
    return [c for c in candidates if c != name and c not in FIELDS]


def test_every_key_with_every_kind_of_typo_is_rejected_with_the_right_name():
    rng = random.Random(0)
    right = total = 0
    for field in FIELDS:
        for typo in typos(field, rng):
            (problem,) = config_lib.unknown_fields([typo])
            assert "\n" not in problem
            right += f'"config.{field}"' in problem
            total += 1
    assert total > 200 and right / total > 0.97, (right, total)


@pytest.mark.parametrize("field", ["batch_sizes", "optimizer.learnin_rate", "modle.name", "seedd"])
def test_typos_through_the_whole_command(capsys, field):
    message = failure(capsys, "--config", cli.CONFIG, f"--config.{field}=3")
    assert message.startswith(f"unknown field config.{field}. Did you mean") and "\n" not in message


@pytest.mark.parametrize(
    "args,parts",
    [
        (["--config.batch_size=abc"], ["batch_size", "abc"]),
        (["--config.batch_size=64.5"], ["batch_size", "64.5"]),
        (["--config.augment.flip=maybe"], ["flip", "maybe"]),
        (["config.batch_size=3"], ["leftover argument 'config.batch_size=3'", "--config.batch_size=3"]),
        (["extra"], ["leftover argument 'extra'"]),
        (["--workdirr=x"], ["unknown flag --workdirr", '"workdir"']),
        (["--config.mode=tarin"], ["config.mode = 'tarin'", '"train"']),
        (["--config.model.name=resnet5"], ["unknown model", "resnet50"]),
        (["--config.model.image_size=8"], ["image_size = 8", "between 32 and 4096"]),
        (["--config.loss.label_smoothing=1.5"], ["label_smoothing = 1.5"]),
        (["--config.data.crop_area=(0.9,0.1)"], ["crop_area"]),
        (["--config.batch_size"], ["needs a value"]),
        (["--config.seed=1", "--config.seed=2"], ["given twice"]),
        (["--config.accumulate=5"], ["not divisible by accumulate"]),
    ],
)
def test_wrong_values(capsys, args, parts):
    message = failure(capsys, "--config", cli.CONFIG, *args)
    for part in parts:
        assert part in message, message


def test_several_problems_come_together(capsys):
    message = failure(capsys, "--config", cli.CONFIG, "--config.mode=x", "--config.epochs=-1", "--config.dtype=float16")
    assert len(message.splitlines()) == 3


def test_config_files(capsys, tmp_path):
    for near in ("configs/resnet_rs5.py", "resnet_rs5", "configs/resnetrs50.py"):
        assert "Did you mean resnet_rs50?" in failure(capsys, "--config", near)
    message = failure(capsys, "--config", "configs/nosuch.py")
    assert "Did you mean" not in message and "The recipes are convnext_finetune, convnext_t, " in message
    assert "Did you mean resnet50_a1 or resnet50_a2 or" in failure(capsys, "--config", "configs/resnet50.py")
    assert 'Did you mean "digits"' in failure(capsys, "--config", "configs/resnet_rs50.py:digit")
    assert "--config is missing" in failure(capsys, "--workdir", "x")
    (tmp_path / "broken.py").write_text("def get_config():\n    return nonsense\n")
    assert "nonsense" in failure(capsys, "--config", str(tmp_path / "broken.py"))


def test_a_recipe_is_named_without_its_folder_and_from_any_folder(tmp_path, monkeypatch):
    expected = parse(["--config", cli.CONFIG])
    assert parse(["--config", "resnet_rs50:digits"]) == expected
    monkeypatch.chdir(tmp_path)
    for name in ("resnet_rs50:digits", "configs/resnet_rs50.py:digits"):
        assert parse(["--config", name]) == expected
    # A file of the user's own comes first.
    Path("configs").mkdir()
    own = "from jaxvision.config import base_config\n\ndef get_config():\n    c = base_config()\n    c.epochs = 30.0\n"
    Path("configs/resnet_rs50.py").write_text(own + "    c.model.name = 'resnet10t'\n    return c\n")
    assert parse(["--config", "configs/resnet_rs50.py"])[0].epochs == 30.0


def test_overrides_and_default_workdir():
    config, workdir = parse(
        ["--config", cli.CONFIG, "--config.optimizer.learning_rate=0.1", "--config.data.crop_area=(0.5,1.0)"]
    )
    assert config.optimizer.learning_rate == 0.1 and config.data.crop_area == (0.5, 1.0)
    assert workdir == Path("runs/resnet_rs50_digits")
    config, workdir = parse(["--config", "configs/resnet_rs50.py", "--workdir", "w"])
    assert workdir == Path("w")
    run = build.lengths(config, 1_281_167)
    assert (run.total, run.warmup) == (109_475, 1564)


def test_data_problems_name_the_remedy(capsys, tmp_path):
    base = ["--config", cli.CONFIG, "--workdir", str(tmp_path / "w"), f"--config.data.dir={tmp_path}"]
    assert "jaxvision prepare-imagenet" in failure(capsys, *base, "--config.data.name=imagenet2012")
    assert "train/<class>" in failure(capsys, *base, "--config.data.name=folder")
    assert "not divisible by the 8 devices" in failure(capsys, *base, "--config.batch_size=12")
    assert "train first" in failure(capsys, *base, "--config.mode=eval", "--config.data.name=synthetic")
    assert not (tmp_path / "w").exists()


def test_unwritable_workdir_fails_before_the_first_step(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    args = ["--config", cli.CONFIG, "--config.data.name=synthetic", "--config.model.name=resnet10t"]
    message = failure(capsys, *args, "--workdir", str(tmp_path / "file" / "run"))
    assert "cannot write to the workdir" in message


def test_memory_is_estimated_before_the_first_step():
    with pytest.raises(UserError, match=r"needs about 3.0 GiB.*device has 2.0 GiB.*batch_size.*remat") as error:
        compilation.check_memory(3 << 30, 2 << 30, "the train step")
    assert error.value.status == 3
    compilation.check_memory(1 << 30, 2 << 30, "the train step")
    compilation.check_memory(1 << 30, None, "the train step")


@pytest.mark.parametrize(
    "config,flags,expected",
    [
        ("resnet_rs50", ["--config.batch_size=512"], "512, in the config file 4096: the learning rate stays 1.6; "
         "scaled with the batch it is --config.optimizer.learning_rate=0.2"),
        ("deit_s", ["--config.batch_size=256"], "256, in the config file 1024: the learning rate stays 0.001; scaled "
         "with the square root of the batch it is --config.optimizer.learning_rate=0.0005"),
        ("deit_s", ["--config.batch_size=1024"], None),
        ("deit_s", ["--config.batch_size=256", "--config.optimizer.learning_rate=1e-3"], None),
        ("deit_s", ["--config.batch_size=256", "--config.mode=eval"], None),
    ],
)  # fmt: skip
def test_another_batch_with_the_same_learning_rate_is_noted(config, flags, expected):
    argv = ["--config", f"configs/{config}.py", *flags]
    note = batch_note(argv, parse(argv)[0])
    assert note == (f"batch_size = {expected}" if expected else None)


def test_ctrl_c_before_the_run_can_save_is_one_line(monkeypatch, capsys):
    def run(config, workdir):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxvision.train.loop.run", run)
    assert main(["--config", cli.CONFIG]) == 130
    assert capsys.readouterr().err.startswith("error: interrupted; the same command resumes")


def test_the_note_of_the_batch_is_printed_once_before_the_run(monkeypatch, capsys):
    monkeypatch.setattr("jaxvision.train.loop.run", lambda config, workdir: print("the run") or 0)
    assert main(["--config", cli.CONFIG, "--config.batch_size=32"]) == 0
    assert [line[:17] for line in capsys.readouterr().out.splitlines()] == ["note: batch_size ", "the run"]
