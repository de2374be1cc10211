"""tools/validate.py and tools/predict.py: timm's counts and answers, and clear ends."""

import argparse
import csv
import io
import json
import os

import fake_hub
import numpy as np
import pytest
import torch
from PIL import Image
from reference import nchw, trained_like
from sklearn.datasets import load_sample_images

import jaxvision
from jaxvision.errors import UserError
from jaxvision.preprocessing import imagenet_classes, preprocessing
from jaxvision.run import contact_sheet
from jaxvision.run.weights import SavedRun
from tools import predict, validate, verify_data
from tools.shared import load_model

SIZE = 96


def run(tool, *args):
    return tool.main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two ImageNet classes by their ids, and what timm answers on each file."""
    root = tmp_path_factory.mktemp("photos")
    reference = trained_like("resnet18").eval()
    torch.save(reference.state_dict(), root / "w.pth")
    settings = preprocessing(jaxvision.model_spec("resnet18"), size=SIZE)
    answers = {}
    rng = np.random.default_rng(0)
    for n in range(9):
        wnid = ("n01440764", "n02085620")[n % 2]
        folder = root / "data" / "val" / wnid
        folder.mkdir(parents=True, exist_ok=True)
        image = load_sample_images().images[n % 2][rng.integers(60) :, rng.integers(60) :]
        Image.fromarray(image if n % 3 else image[:, ::-1]).save(folder / f"{n}.png")
        x = np.asarray(settings.normalise(settings.load(folder / f"{n}.png")[None]))
        with torch.no_grad():
            answers[folder / f"{n}.png"] = reference(nchw(x))[0].numpy()
    return root, answers


@pytest.fixture
def data(photos):
    return ["--data-name", "folder", "--data-dir", photos[0] / "data", "--split", "val"]


def test_the_report_has_the_mistakes_that_validate_counts(photos, data, tmp_path, capsys):
    root, answers = photos
    names = [name for _, name in imagenet_classes()]
    args = ["resnet18", "--weights", root / "w.pth", *data, "--image-size", SIZE, "--batch-size", 4]
    assert run(validate, *args, "--report", tmp_path / "report", "--out", tmp_path / "r.json") == 0
    assert f"wrote {tmp_path / 'report'}: confusion.png" in capsys.readouterr().out
    with (tmp_path / "report" / "mistakes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    top1 = json.loads((tmp_path / "r.json").read_text())["top1"]
    assert len(rows) == 9 - round(9 * top1 / 100) > 0
    expected = {}
    for file, logits in answers.items():
        probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        expected[str(file)] = names[logits.argmax()], probabilities.max()
    for row in rows:
        answer, confidence = expected[row["image"]]
        assert row["answer"] == answer and float(row["confidence"]) == pytest.approx(confidence, abs=2e-3)
        assert row["class"] == dict(imagenet_classes())[row["image"].split("/")[-2]]
    (tmp_path / "file").touch()
    assert run(validate, *args, "--report", tmp_path / "file") == 2
    assert "must be a folder, it is a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("extra", [[], ["--fuse"]])
def test_validate_counts_what_timm_would(photos, data, tmp_path, capsys, extra):
    root, answers = photos
    ids = [wnid for wnid, _ in imagenet_classes()]
    ranks = [int((logits > logits[ids.index(file.parent.name)]).sum()) for file, logits in answers.items()]
    args = ["resnet18", "--weights", root / "w.pth", *data, "--batch-size", 4, *extra]
    assert run(validate, *args, "--image-size", SIZE, "--out", tmp_path / "r.json") == 0
    assert "short side to 101 px (bicubic, Pillow), centre crop 96 px" in capsys.readouterr().out
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["images"] == 9
    assert found["top1"] == pytest.approx(100 * np.mean([rank < 1 for rank in ranks]))
    assert found["top5"] == pytest.approx(100 * np.mean([rank < 5 for rank in ranks]))


def test_a_run_is_validated_as_it_evaluated_itself(photos, monkeypatch, tmp_path):
    evaluated = {"image_size": 96, "crop_pct": 0.9, "crop_mode": "crop_first", "interpolation": "tf_bicubic"}
    config = {
        "model": {"name": "resnet18.a1_in1k", "image_size": 64},
        "eval": evaluated,
        "data": {"dct_method": "fast"},
    }
    state = {name: value.numpy() for name, value in torch.load(photos[0] / "w.pth", weights_only=True).items()}
    monkeypatch.setattr(load_model, "run_of", lambda *args, **kwargs: SavedRun(state, config, 5, None, None))
    parsed = argparse.Namespace(model="resnet18", weights=tmp_path, image_size=None, crop_pct=None, test_size=False,
                                raw=False, dtype="float32", fuse=False)  # fmt: skip
    settings = load_model.load(parsed).settings
    own = (settings.size, settings.crop_pct, settings.crop_mode, settings.interpolation, settings.dct_method)
    assert own == (96, 0.9, "crop_first", "tf_bicubic", "fast")
    assert "centre crop of the short side (crop 0.9), resized to 96 px (tf_bicubic)" in str(settings)


@pytest.mark.parametrize(
    ("name", "factor"), [("layer4.1.bn2.weight", 3e38), ("fc.weight", 0.0)], ids=["logits that are NaN", "ties"]
)
def test_validate_does_not_reward_nan_and_ties(name, factor, photos, data, tmp_path, capsys):
    state = dict(torch.load(photos[0] / "w.pth", weights_only=True))
    state |= {name: state[name] * factor, "fc.bias": state["fc.bias"] * 0}
    torch.save(state, tmp_path / "w.pth")
    args = ["--model", "resnet18", "--weights", tmp_path / "w.pth", *data, "--image-size", 64]
    if factor:
        model = jaxvision.create_model("resnet18", weights=tmp_path / "w.pth")
        assert np.isnan(model(np.random.default_rng(0).standard_normal((1, 64, 64, 3), np.float32))).all()
    assert run(validate, *args) == 0
    out = capsys.readouterr().out
    assert "top-1 0.000 %, top-5 0.000 %" in out
    assert ("warning: the logits of 9 images are NaN or infinite" in out) == bool(factor)


def test_weights_that_are_not_finite_are_not_validated(photos, data, tmp_path, capsys):
    state = dict(torch.load(photos[0] / "w.pth", weights_only=True))
    torch.save(state | {"fc.bias": state["fc.bias"] * float("nan")}, tmp_path / "w.pth")
    assert run(validate, "--model", "resnet18", "--weights", tmp_path / "w.pth", *data) == 2
    assert "fc.bias: 1000 of 1000 values are not finite" in capsys.readouterr().err


def test_predict_names_the_classes_and_draws_a_sheet(photos, tmp_path, capsys):
    root, answers = photos
    (root / "data" / "broken.jpg").write_bytes(b"\xff\xd8 no")
    sheet = tmp_path / "sheet.png"
    common = ["--model", "resnet18", "--weights", root / "w.pth", "--image-size", SIZE]
    assert run(predict, root / "data", *common, "--json", "--sheet", sheet) == 1  # a file that cannot be read is named
    output = capsys.readouterr()
    assert "broken.jpg" in output.err
    rows = {row["file"]: row["top"] for row in json.loads(output.out)}
    assert len(rows) == 9
    names = [name for _, name in imagenet_classes()]
    for file, logits in answers.items():
        probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        index, name, probability = rows[str(file)][0]
        assert index == logits.argmax() and name == names[index]
        assert probability == pytest.approx(probabilities[index], rel=1e-3)
    image = np.asarray(Image.open(sheet))
    assert image.shape[2] == 3 and image.std() > 20


def test_files_of_one_name_are_told_apart_on_the_sheet():
    files = ["/d/train/cat/1.jpg", "/d/train/dog/1.jpg", "/d/val/dog/1.jpg", "/d/2.jpg", "2.jpg", "3.jpg", "3.jpg"]
    short = ["cat/1.jpg", "train/dog/1.jpg", "val/dog/1.jpg", "d/2.jpg", "2.jpg", "3.jpg", "3.jpg"]
    assert contact_sheet.short_names(files) == short
    assert contact_sheet.short_names(["https://a.org/1.jpg", "https://b.org/1.jpg"]) == ["a.org/1.jpg", "b.org/1.jpg"]


def test_a_long_heading_of_the_sheet_is_broken_and_not_cut():
    lines = contact_sheet.broken("train/n01440764/n01440764_10026_long.JPEG", lambda text: len(text) <= 20)
    assert lines == ["train/n01440764/", "n01440764_10026_long", ".JPEG"]
    assert contact_sheet.broken("a.jpg", lambda text: False) == list("a.jpg")  # ends, whatever the width
    black = np.zeros((8, 8, 3), np.uint8)
    one = contact_sheet.contact_sheet([black, black], [["1.jpg", "9 %"], ["2.jpg", "9 %"]])
    two = contact_sheet.contact_sheet([black, black], [["1.jpg", "9 %"], ["a/long/name" * 4 + "/2.jpg", "9 %"]])
    assert two.height > one.height and two.width == one.width


@pytest.mark.parametrize(
    ("tool", "args", "message"),
    [
        (predict, ["absent.jpg", "--model", "resnet18", "--weights", "w.pth"], "no such file or folder: absent.jpg"),
        (predict, [".", "--model", "resnet18", "--weights", "w.pth"], "no images below"),
        (validate, ["resnet18", "--weights", "w.pth"], "weights file not found: w.pth"),
        (validate, ["resnet5", "--weights", "w.pth"], 'Did you mean "resnet50"'),
        (validate, ["resnet18", "--weights", "."], "no workdir of a run"),
    ],
)
def test_mistakes_are_one_line(tool, args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(tool, *args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("args", [[], ["resnet18", "--model", "resnet34", "--weights", "w"]])
def test_exactly_one_model_is_named(args, capsys):
    with pytest.raises(SystemExit):
        run(validate, *args)
    assert "name one model: MODEL or --model MODEL" in capsys.readouterr().err


def test_data_in_the_models_place_as_in_timm_is_told_its_option(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(validate, tmp_path, "--model", "resnet18")
    assert f"{tmp_path} is a folder: of data it is --data-dir {tmp_path}" in capsys.readouterr().err


def test_weights_have_to_say_which_model_they_are_of(photos, data, capsys):
    assert run(validate, "--weights", photos[0] / "w.pth", *data) == 2
    assert "w.pth does not say which model it is of: name it, --model NAME" in capsys.readouterr().err


def test_classes_are_matched_by_name_or_refused(photos, tmp_path, capsys):
    class Data:
        def __init__(self, *names):
            self.class_names, self.num_classes = names, len(names)

    table = validate.label_table
    assert table(Data("n02085620", "n01440764"), 1000, None).tolist() == [151, 0]
    assert table(Data("rose", "daisy"), 3, ("daisy", "tulip", "rose")).tolist() == [2, 0]
    assert table(Data("0", "1"), 2, None).tolist() == [0, 1]
    order = tuple(reversed([wnid for wnid, _ in imagenet_classes()]))
    assert table(Data("n02085620", "n01440764"), 1000, order).tolist() == [848, 999]  # the weights' own
    assert table(Data("n02085620", "n01440764"), 1000, tuple(map(str, range(1000)))).tolist() == [151, 0]
    with pytest.raises(UserError, match="classes of the model that have the same name: crane"):
        table(Data("crane"), 3, ("crane", "crane", "c"))
    with pytest.raises(UserError, match="1 of 2 classes of the data are not in the model: cat"):
        table(Data("rose", "cat"), 3, ("daisy", "tulip", "rose"))
    with pytest.raises(UserError, match=r"the data has 6 classes, the model 7, whose names are unknown"):
        table(Data(*"abcdef"), 7, None)
    capsys.readouterr()
    table(Data(*"abdefg"), 7, tuple("abcdefg"))
    assert capsys.readouterr().err == "note: 1 of 7 classes of the model are not in the data: c\n"
    assert table(Data("rose", "daisy"), 2, None).tolist() == [0, 1]
    assert "note: the weights do not name their classes: taken to be the data's" in capsys.readouterr().err
    table(Data("rose", "daisy"), 2, None, mapped=True)
    table(Data("0", "1"), 2, None)
    table(Data(*(wnid for wnid, _ in imagenet_classes())), 1000, None)
    assert capsys.readouterr().err == ""


def test_predict_reads_a_url_and_the_standard_input(photos, monkeypatch, capsys):
    root, answers = photos
    file = next(iter(answers))
    with fake_hub.serve(fake_hub.Hub({("me/x", "a.png"): file.read_bytes()})) as hub:
        url = f"{hub.url}/me/x/resolve/main/a.png"
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
        args = ["--model", "resnet18", "--weights", root / "w.pth", "--image-size", SIZE, "--json"]
        assert run(predict, file, url, "-", *args) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["file"] for row in rows] == [str(file), url, "-"]
        assert rows[0]["top"] == rows[1]["top"] == rows[2]["top"]
        assert run(predict, url + "x", *args) == 1
        assert "a.pngx: HTTP Error 404" in capsys.readouterr().err


@pytest.mark.parametrize("images,columns", [(1, 1), (5, 3), (6, 3), (9, 3)])
def test_the_rows_of_a_sheet_are_filled(images, columns):
    sheet = contact_sheet.contact_sheet([np.zeros((8, 8, 3), np.uint8)] * images, [["a.png", "cat"]] * images)
    assert sheet.width == 210 * columns + 10


def test_validate_looks_for_the_data_before_it_fetches_weights(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(load_model.published, "find", lambda *args: pytest.fail("fetched"))
    assert run(validate, "resnet18", "--data-name", "folder", "--data-dir", tmp_path) == 2
    assert "val" in capsys.readouterr().err
    (tmp_path / "val").mkdir()
    assert run(validate, "resnet18", "--data-dir", tmp_path) == 2
    assert f"{tmp_path} holds val: if these hold class folders, add --data-name folder" in capsys.readouterr().err


def test_predict_refuses_pipes_and_what_does_not_end(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    names = [str(tmp_path / "pipe.jpg"), str(tmp_path / "endless.jpg")]
    assert predict.find_images(names) == names  # to be named as what they are
    for name, kind in zip(names, ("pipe", "device"), strict=True):
        with pytest.raises(ValueError, match=f"not a regular file but a {kind}"):
            predict.read_image(name)
    monkeypatch.setattr(predict, "LARGEST", 2**20)
    with open("/dev/zero") as endless:  # noqa: PTH123
        monkeypatch.setattr("sys.stdin", endless)
        with pytest.raises(ValueError, match="larger than 1 MiB"):
            predict.read_image("-")


def test_the_earlier_names_of_options_still_work(photos, capsys):
    root, _ = photos
    args = ["resnet18", "--weights", root / "w.pth", "--name", "folder", "--dir", root / "data", "--split", "val"]
    assert run(validate, *args, "--image-size", 64) == 0
    assert "9 images of folder val" in capsys.readouterr().out


def test_data_sets_are_named_as_in_a_config(photos, capsys):
    args = ["resnet18", "--weights", photos[0] / "w.pth", "--image-size", 64, "--data-name", "folder"]
    assert run(validate, *args, "--data-dir", photos[0] / "data") == 0  # "validation" is a folder's val
    assert "9 images of folder validation" in capsys.readouterr().out
    assert run(verify_data, "--data-name", "digits", "--split", "test") == 0
    assert "360 examples, all good" in capsys.readouterr().out
    assert run(verify_data, "--data-name", "folder", "--data-dir", photos[0] / "data", "--split", "val") == 0
    broken = photos[0] / "data" / "val" / "n01440764" / "broken.png"
    broken.write_bytes(b"no image")
    assert run(verify_data, "--data-name", "folder", "--data-dir", photos[0] / "data", "--split", "val") == 1
    broken.unlink()
    out = capsys.readouterr().out
    assert f"{broken}" in out and "1 of 10 examples are damaged" in out
