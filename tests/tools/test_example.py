"""A network really trained on ImageNet, and real photos: what random weights and noise cannot show."""

import numpy as np
import pytest
import torch
from PIL import Image
from reference import nchw, timm

import jaxvision
from jaxvision.errors import UserError
from jaxvision.preprocessing import imagenet_classes, preprocessing
from tools import predict
from tools.shared import example

# What may be said of each photo. ImageNet has no class for an astronaut: only that this one is no animal.
RIGHT = {
    "chelsea.png": {"tiger cat", "Egyptian cat", "tabby"},
    "coffee.png": {"espresso"},
    "rocket.jpg": {"missile", "projectile", "space shuttle"},
    "china.jpg": {"palace", "bell cote", "monastery"},
    "flower.jpg": {"daisy"},
}


@pytest.fixture(scope="module")
def model():
    return jaxvision.create_model(example.MODEL, weights=example.weights())


def test_photos_are_named_right_with_timms_logits(model):
    reference = timm.create_model(example.MODEL.partition(".")[0]).eval()
    state = {key: torch.from_numpy(np.array(value)) for key, value in jaxvision.to_torch(model).items()}
    reference.load_state_dict(state, strict=True)
    settings = preprocessing(jaxvision.model_spec(example.MODEL))
    x = np.asarray(settings.normalise(np.stack([settings.load(path) for path in example.photos()])))
    logits = np.asarray(model(x))
    with torch.no_grad():
        expected = reference(nchw(x)).numpy()
    assert np.isfinite(logits).all() and np.ptp(logits) > 10
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    names = [name for _, name in imagenet_classes()]
    for path, row in zip(example.photos(), logits, strict=True):
        best = names[int(row.argmax())]
        assert best in RIGHT.get(path.name, {best}), f"{path.name}: {best}"
    assert logits[0].argmax() >= 398, "classes 0 to 397 are animals"


@pytest.mark.slow
def test_many_crops_of_photos_are_named_as_timm_names_them(model):
    assert agreement(model, 64) == (64, 64)


def agreement(model, count, batch=32):
    """Of how many random crops the best class, and the five best in their order, are timm's."""
    reference = timm.create_model(example.MODEL.partition(".")[0]).eval()
    state = {key: torch.from_numpy(np.array(value)) for key, value in jaxvision.to_torch(model).items()}
    reference.load_state_dict(state, strict=True)
    settings = preprocessing(jaxvision.model_spec(example.MODEL))
    photos, rng = [Image.open(path).convert("RGB") for path in example.photos()], np.random.default_rng(0)
    top1 = top5 = 0
    for first in range(0, count, batch):
        crops = []
        for i in range(first, min(first + batch, count)):
            photo = photos[i % len(photos)]
            side = int(rng.integers(min(photo.size) // 3, min(photo.size)))
            x, y = (int(rng.integers(0, length - side + 1)) for length in photo.size)
            crops.append(settings.load(photo.crop((x, y, x + side, y + side)).rotate(float(rng.normal(0, 10)))))
        images = np.asarray(settings.normalise(np.stack(crops)))
        with torch.no_grad():
            theirs = torch.topk(reference(nchw(images)), 5).indices.numpy()
        ours = np.argsort(-np.asarray(model(images)), axis=1)[:, :5]
        top1 += int((ours[:, 0] == theirs[:, 0]).sum())
        top5 += int((ours == theirs).all(1).sum())
    return top1, top5


def test_the_names_of_efficientnet_pytorch_fill_a_network_with_gates():
    """Blocks are numbered through all stages there, and the first has no expansion."""
    source = timm.create_model("tf_efficientnet_b1", num_classes=7)
    state, number = {}, -1
    whole = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    later = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    later |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    before = None
    for key, value in source.state_dict().items():
        parts = key.split(".")
        if parts[0] != "blocks":
            state[".".join([whole[parts[0]], *parts[1:]])] = value
            continue
        number += parts[1:3] != before
        before = parts[1:3]
        if parts[3] == "se":
            layer, rest = "_se_" + parts[4].removeprefix("conv_"), parts[5:]
        else:
            layer, rest = (first if parts[1] == "0" else later)[parts[3]], parts[4:]
        state[".".join([f"_blocks.{number}", layer, *rest])] = value
    ours = jaxvision.create_model("tf_efficientnet_b1", weights=state)
    assert number == 22 and ours.num_classes == 7
    for key, value in jaxvision.to_torch(ours).items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(value, source.state_dict()[key].numpy(), err_msg=key)


def test_the_example_needs_no_other_argument(capsys):
    with pytest.raises(SystemExit):
        predict.main(["--example", "--model", "resnet50"])
    assert "expected images and --model, --weights or both; or --example" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict.main(["photo.jpg"])


@pytest.mark.program
def test_the_example_is_printed_and_drawn(tmp_path, capsys):
    assert predict.main(["--example", "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "95.14 %  espresso (967)" in capsys.readouterr().out
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_another_file_of_the_package_is_refused(monkeypatch):
    monkeypatch.setattr(example, "SHA256", "0" * 64)
    with pytest.raises(UserError, match="is not the file whose sha256"):
        example.weights()
    monkeypatch.setattr(example, "PHOTOS", {"no_such_package": ("a.png",)})
    with pytest.raises(UserError, match="needs the package no_such_package: make install-test"):
        example.photos()
