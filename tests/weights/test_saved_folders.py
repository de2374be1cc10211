"""Folders that this library and timm write, and each opens."""

import huggingface_hub
import jax
import numpy as np
import pytest
import torch
from reference import nchw, relative_error, timm, trained_like

import jaxvision
from jaxvision.errors import UserError

NAME = "resnet10t"


@pytest.fixture(scope="module")
def network():
    return trained_like(NAME, num_classes=3).eval()


def answers_of(reference, size=(96, 96), channels=3):
    x = np.random.default_rng(0).standard_normal((2, *size, channels), np.float32)
    with torch.no_grad():
        return x, reference(nchw(x)).numpy()


@pytest.mark.parametrize("safe", [True, False])
def test_a_folder_of_timms(network, tmp_path, safe):
    timm.models.save_for_hf(network, tmp_path, {"label_names": ["a", "b", "c"]}, safe_serialization=safe)
    model = jaxvision.create_model(f"local-dir:{tmp_path}")
    x, expected = answers_of(network)
    assert relative_error(model(x), expected) < 1e-4
    assert model.spec.class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (NAME, {}),
        ("vit_tiny_patch16_224", {"image_size": 96}),
        ("swin_tiny_patch4_window7_224", {"image_size": 64}),
        ("convnext_atto", {"in_chans": 1}),
    ],
)
def test_a_saved_folder_gives_timm_the_same_answers(tmp_path, name, fields):
    arguments = {"img_size" if key == "image_size" else key: value for key, value in fields.items()}
    source = trained_like(name, num_classes=4, **arguments).state_dict()
    model = jaxvision.create_model(name, weights=source, **fields)
    jaxvision.save_pretrained(model, tmp_path, class_names=("a", "b", "c", "d"))
    reference = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    back = jaxvision.create_model(f"local-dir:{tmp_path}")
    x, expected = answers_of(reference, model.image_size or (64, 64), model.in_chans)
    assert relative_error(model(x), expected) < 1e-4
    assert np.array_equal(back(x), model(x))
    assert back.spec.class_names == ("a", "b", "c", "d") and back.in_chans == model.in_chans
    assert back.spec.top1 is None  # that of the tag is not that of these weights
    cfg = timm.data.resolve_data_config(model=reference)
    assert cfg["input_size"][1:] == (model.image_size or (model.spec.input_size,) * 2)
    assert (tuple(cfg["mean"]), tuple(cfg["std"])) == (model.spec.mean, model.spec.std)
    assert (cfg["crop_pct"], cfg["interpolation"]) == (model.spec.crop_pct, model.spec.interpolation)
    assert 'create_model("local-dir:PATH")' in (tmp_path / "README.md").read_text()


def test_timm_can_fine_tune_a_saved_folder(tmp_path):
    for name in (NAME, "deit_tiny_distilled_patch16_224"):
        state = trained_like(name, num_classes=4).state_dict()
        jaxvision.save_pretrained(jaxvision.create_model(name, weights=state), tmp_path / name)
        for change in ({"num_classes": 5}, {"num_classes": 0}, {"in_chans": 1}):
            timm.create_model(f"local-dir:{tmp_path / name}", pretrained=True, **change)


def test_what_timms_layout_cannot_say_is_not_saved(tmp_path):
    key = jax.random.key(0)
    swin = jaxvision.create_model("swin_tiny_patch4_window7_224", num_classes=3, image_size=64, key=key)
    with pytest.raises(UserError, match=r"differs from the one that its name builds: .*window"):
        jaxvision.save_pretrained(swin.with_image_size(448), tmp_path)
    wide = jaxvision.create_model("vit_tiny_patch16_224", num_classes=3, image_size=(64, 96), key=key)
    with pytest.raises(UserError, match="square images, this model is for 64x96"):
        jaxvision.save_pretrained(wide, tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "README.md").write_text("mine")
    simple = jaxvision.create_model("simple_vit_tiny_patch16_224", num_classes=3, key=key)
    jaxvision.save_pretrained(simple, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    jaxvision.save_pretrained(simple, tmp_path / "other")
    assert "timm.create_model" not in (tmp_path / "other" / "README.md").read_text()
    jaxvision.save_pretrained(simple, tmp_path / "other", card="again")  # ours is replaced
    assert "again" in (tmp_path / "other" / "README.md").read_text()


def test_folders_that_are_none(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        jaxvision.create_model(f"local-dir:{tmp_path}/nothing")
    with pytest.raises(UserError, match=r"has no config\.json"):
        jaxvision.create_model(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text('{"architecture": "resnet10t"}')
    with pytest.raises(UserError, match=r"has none of the files model\.safetensors"):
        jaxvision.create_model(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match="cannot be read as JSON"):
        jaxvision.create_model(f"local-dir:{tmp_path}")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match=r"is the workdir of a training run: `jaxvision publish .* --out DIR`"):
        jaxvision.create_model(f"local-dir:{tmp_path}")


def test_saving_says_what_does_not_fit(network, tmp_path):
    model = jaxvision.create_model(NAME, weights=network.state_dict())
    with pytest.raises(UserError, match="2 class names for a model of 3 classes"):
        jaxvision.save_pretrained(model, tmp_path / "x", class_names=("a", "b"))
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="is the workdir of a training run"):
        jaxvision.save_pretrained(model, tmp_path / "run")
    with pytest.raises(UserError, match="fused"):
        jaxvision.save_pretrained(jaxvision.fuse(model), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_upload_sends_the_folder_and_its_failure_is_told(network, tmp_path, monkeypatch):
    sent = []
    api = huggingface_hub.HfApi
    monkeypatch.setattr(api, "create_repo", lambda self, repository, **how: sent.append((self.token, repository, how)))
    monkeypatch.setattr(api, "upload_folder", lambda self, **fields: sent.append(fields))
    model = jaxvision.create_model(NAME, weights=network.state_dict())
    jaxvision.save_pretrained(model, tmp_path, push_to_hub="me/flowers", token="secret")
    assert sent[0] == ("secret", "me/flowers", {"private": False, "exist_ok": True})
    assert sent[1]["allow_patterns"] == ["model.safetensors", "config.json", "README.md"]  # nothing else of the folder
    assert sent[1]["repo_id"] == "me/flowers" and sent[1]["folder_path"] == tmp_path
    assert 'create_model("hf-hub:me/flowers")' in (tmp_path / "README.md").read_text()

    def refused(self, **fields):
        raise OSError("no route to host")

    monkeypatch.setattr(api, "upload_folder", refused)
    with pytest.raises(UserError, match="was written, but not uploaded: me/flowers: no route to host"):
        jaxvision.save_pretrained(model, tmp_path, push_to_hub="me/flowers")
