"""The folder of a run: what is refused before the first step, and what is written again."""

import os

import ml_collections
import pytest

from jaxvision.config import base_config, resolve
from jaxvision.errors import UserError
from jaxvision.train.workdir import FILES, keep_description, open_workdir, run_class_differences

NAMES = ("cat", "dog")


def config(model="resnet10t"):
    values = base_config()
    values.model.name = model
    values.data.name = "digits"
    values.steps = 1
    assert isinstance(values, ml_collections.ConfigDict)
    return resolve(values)


def never(text):
    raise AssertionError(text)


def open_(workdir, model="resnet10t", names=NAMES):
    return open_workdir(workdir, config(model), names, never)


def test_a_second_run_is_refused_and_changes_nothing(tmp_path):
    with open_(tmp_path / "run"):
        before = {name: (tmp_path / "run" / name).read_bytes() for name in ("config.json", "classes.txt", ".lock")}
        with pytest.raises(UserError, match="is in use: process"), open_(tmp_path / "run", "resnet18", ("a", "b")):
            pass
        assert before == {name: (tmp_path / "run" / name).read_bytes() for name in before}
    with open_(tmp_path / "run"):
        pass


def test_what_no_run_would_write_is_refused_all_at_once(tmp_path):
    for name in FILES[:-2]:
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "curves.png")  # reading it would wait forever
    (tmp_path / "checkpoints").write_text("")
    (tmp_path / "tensorboard").symlink_to("nowhere")
    with pytest.raises(UserError) as refused, open_(tmp_path):
        pass
    lines = str(refused.value).splitlines()
    assert [line.partition(" must be ")[0].rpartition("/")[2] for line in lines] == [
        *("config.json", "classes.txt", "metrics.jsonl", "metrics.csv", "curves.png", "checkpoints", "tensorboard")
    ]
    assert "curves.png must be a regular file, it is a pipe: delete or rename it" in lines[4]
    assert "checkpoints must be a folder, it is a regular file" in lines[5] and "a link to nothing" in lines[6]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file must be a folder, it is a regular file"), open_(tmp_path / "file"):
        pass


def test_a_link_to_a_folder_is_a_workdir(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    with open_(tmp_path / "link"), pytest.raises(UserError, match="is in use"), open_(tmp_path / "there"):
        pass
    assert (tmp_path / "there" / "config.json").is_file()


def test_a_deleted_description_is_written_again(tmp_path):
    said = []
    with open_(tmp_path):
        content = (tmp_path / "config.json").read_text()
        keep_description(tmp_path, config(), NAMES, never)
        (tmp_path / "config.json").unlink()
        keep_description(tmp_path, config(), NAMES, said.append)
        assert (tmp_path / "config.json").read_text() == content and len(said) == 1
        (tmp_path / "config.json").unlink()
        (tmp_path / "config.json").mkdir()
        (tmp_path / "classes.txt").unlink()
        keep_description(tmp_path, config(), NAMES, said.append)
        assert "cannot be written again: Is a directory" in said[1]


def test_other_classes_than_those_of_a_runs_weights_are_told(tmp_path):
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\n")
    assert run_class_differences(str(tmp_path), ["ant", "bee", "cat"]) is None
    assert (
        run_class_differences(str(tmp_path / "weights.pth"), ["x"]) is None and run_class_differences("", ["x"]) is None
    )
    found = run_class_differences(str(tmp_path), ["ant", "bee", "dog"])
    assert found == "other classes (only in these weights: cat; only in the data: dog)"
    hint = f"--config.data.class_map={tmp_path}/classes.txt takes their order"
    found = run_class_differences(str(tmp_path), ["bee", "ant", "cat"])
    assert found == f"other classes (the same in another order); {hint}"
    found = run_class_differences(str(tmp_path), ["bee", "cat"])
    assert found == f"other classes (only in these weights: ant); {hint}"
