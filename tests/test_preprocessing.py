"""validate and predict: timm's pixels, exact counts, and clear ends."""

import json
import subprocess
import sys

import cli
import numpy as np
import pytest
import torch
from PIL import Image
from reference import nchw, trained_like

import jaxvision
from jaxvision.errors import UserError
from jaxvision.preprocessing import imagenet_classes, preprocessing


def tool(name, *args):
    command = [sys.executable, f"tools/{name}.py", *map(str, args)]
    return subprocess.run(command, env=cli.environment(quick=True), cwd=cli.ROOT, capture_output=True, text=True)


def natural_images():
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


@pytest.mark.parametrize(
    "name",
    ["resnet50.a1_in1k", "resnetrs50", "efficientnet_b5.sw_in12k_ft_in1k", "tf_efficientnetv2_b0",
     "vit_small_patch16_224", "resnext101_32x8d.tv_in1k"],
)  # fmt: skip
@pytest.mark.parametrize("test_size", [False, True])
def test_preprocessing_is_timms_pixel_for_pixel(name, test_size, tmp_path):
    from timm.data import create_transform, resolve_data_config
    from timm.models import get_pretrained_cfg

    spec = jaxvision.model_spec(name)
    if test_size and spec.test_input_size is None and spec.test_crop_pct is None:
        with pytest.raises(UserError, match="no other test setting"):
            preprocessing(spec, test_size=True)
        return
    config = get_pretrained_cfg(f"{spec.name}.{spec.tag}").to_dict()
    settings = resolve_data_config({}, pretrained_cfg=config, use_test_size=test_size)
    transform = create_transform(**settings, is_training=False)
    ours = preprocessing(spec, test_size=test_size)
    for i, image in enumerate(natural_images()):
        for j, cut in enumerate((image, image[:, :300], image[:211, :400])):
            file = tmp_path / f"{i}{j}.png"
            Image.fromarray(cut).save(file)
            expected = transform(Image.open(file).convert("RGB")).numpy().transpose(1, 2, 0)
            mine = np.asarray(ours.normalise(ours.load(file)[None]))[0]
            np.testing.assert_allclose(mine, expected, atol=2e-6)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two ImageNet classes by their ids, and what timm answers on each file."""
    root = tmp_path_factory.mktemp("photos")
    reference = trained_like("resnet18").eval()
    torch.save(reference.state_dict(), root / "w.pth")
    settings = preprocessing(jaxvision.model_spec("resnet18"))
    answers = {}
    rng = np.random.default_rng(0)
    for n in range(9):
        wnid = ("n01440764", "n02085620")[n % 2]
        folder = root / "data" / "val" / wnid
        folder.mkdir(parents=True, exist_ok=True)
        image = natural_images()[n % 2][rng.integers(60) :, rng.integers(60) :]
        Image.fromarray(image if n % 3 else image[:, ::-1]).save(folder / f"{n}.png")
        x = np.asarray(settings.normalise(settings.load(folder / f"{n}.png")[None]))
        with torch.no_grad():
            answers[folder / f"{n}.png"] = reference(nchw(x))[0].numpy()
    return root, answers


@pytest.mark.program
def test_validate_counts_what_timm_would(photos, tmp_path):
    root, answers = photos
    ids = [wnid for wnid, _ in imagenet_classes()]
    ranks = [int((logits > logits[ids.index(file.parent.name)]).sum()) for file, logits in answers.items()]
    args = ["resnet18", "--weights", root / "w.pth", "--name", "folder", "--dir", root / "data", "--split", "val",
            "--batch-size", 4, "--out", tmp_path / "r.json"]  # fmt: skip
    for extra in ([], ["--fuse"]):
        result = tool("validate", *args, *extra)
        assert result.returncode == 0, result.stderr
        assert "short side to 235 px (bicubic, Pillow), centre crop 224 px" in result.stdout
        found = json.loads((tmp_path / "r.json").read_text())
        assert found["images"] == 9
        assert found["top1"] == pytest.approx(100 * np.mean([rank < 1 for rank in ranks]))
        assert found["top5"] == pytest.approx(100 * np.mean([rank < 5 for rank in ranks]))


@pytest.mark.program
def test_validate_does_not_reward_nan(photos, tmp_path):
    root, _ = photos
    state = dict(torch.load(root / "w.pth", weights_only=True))
    state["fc.bias"] = state["fc.bias"] * float("nan")
    torch.save(state, tmp_path / "nan.pth")
    result = tool("validate", "resnet18", "--weights", tmp_path / "nan.pth", "--name", "folder", "--dir", root / "data",
                  "--split", "val", "--image-size", 64)  # fmt: skip
    assert result.returncode == 0 and "top-1 0.000 %, top-5 0.000 %" in result.stdout


@pytest.mark.program
def test_predict_names_the_classes_and_draws_a_sheet(photos, tmp_path):
    root, answers = photos
    (root / "data" / "broken.jpg").write_bytes(b"\xff\xd8 no")
    sheet = tmp_path / "sheet.png"
    common = ["--model", "resnet18", "--weights", root / "w.pth"]
    result = tool("predict", root / "data", *common, "--json", "--sheet", sheet)
    assert result.returncode == 1  # one file could not be read, and is named
    assert "broken.jpg" in result.stderr and "Traceback" not in result.stderr
    rows = {row["file"]: row["top"] for row in json.loads(result.stdout)}
    assert len(rows) == 9
    names = [name for _, name in imagenet_classes()]
    for file, logits in answers.items():
        probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        index, name, probability = rows[str(file)][0]
        assert index == logits.argmax() and name == names[index]
        assert probability == pytest.approx(probabilities[index], rel=1e-3)
    image = np.asarray(Image.open(sheet))
    assert image.shape[2] == 3 and image.std() > 20

    result = tool("predict", tmp_path / "absent.jpg", *common)
    assert result.returncode == 2 and "no such file or folder" in result.stderr


def test_imagenet_class_names_are_complete_and_in_order():
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    classes = imagenet_classes()
    assert len(classes) == 1000 and len({name for _, name in classes}) == 1000
    assert [wnid for wnid, _ in classes] == sorted(wnid for wnid, _ in classes)
    same = sum(a.lower() == b.lower() for (_, a), b in zip(classes, _IMAGENET_CATEGORIES, strict=True))
    assert same > 900  # the rest are other words for the same thing
