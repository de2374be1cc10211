"""Weights by name, from a hub on this machine that has the faults of a real one."""

import dataclasses
import json
import logging
import re
import sys

import fake_hub
import jax
import numpy as np
import pytest
import terminal
import torch
from reference import nchw, random_images, relative_error, trained_like
from safetensors.torch import save as to_safetensors

import jaxvision
from jaxvision.errors import UserError
from jaxvision.weights.hub import HubAccess, fetch

NAME = "resnet10t"
REPOSITORY = "timm/resnet10t.c3_in1k"
CONFIG = {
    "architecture": NAME,
    "num_classes": 3,
    "label_names": ["n01", "n02", "n03"],
    "label_descriptions": {"n01": "daisy", "n02": "rose", "n03": "tulip"},
    "pretrained_cfg": {
        "tag": "c3_in1k", "num_classes": 1000, "input_size": [3, 96, 96], "test_input_size": [3, 128, 128],
        "interpolation": "bilinear", "crop_pct": 0.8, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def network():
    return trained_like(NAME, num_classes=3).eval()


@pytest.fixture(scope="module")
def weights(network):
    return to_safetensors(network.state_dict())


@pytest.fixture
def hub(weights, monkeypatch, tmp_path):
    """A hub with one repository of timm's; downloads go to a folder of this test."""
    files = {(REPOSITORY, "config.json"): json.dumps(CONFIG).encode(), (REPOSITORY, "model.safetensors"): weights}
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits before it tries again
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with fake_hub.serve(fake_hub.Hub(files)) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
                            hub.url + "/{repo_id}/resolve/{revision}/{filename}")  # fmt: skip
        yield hub


def store(hub):
    """Requests for the content of large files."""
    return [request for request in hub.requests if request.startswith("GET /store/")]


def answers(network, size=96):
    x = random_images((size, size), 0)
    with torch.no_grad():
        return x, network(nchw(x)).numpy()


@pytest.mark.parametrize("name", ["resnet10t", "resnet10t.c3_in1k", f"hf-hub:{REPOSITORY}", f"hf-hub:{REPOSITORY}@v1"])
def test_weights_by_name_give_timms_answers_with_the_repositorys_settings(hub, network, name):
    model = jaxvision.create_model(name, pretrained=True)
    x, expected = answers(network)
    assert relative_error(model(x), expected) < 1e-4
    spec = model.spec
    assert (spec.name, spec.tag, spec.num_classes, spec.input_size, spec.test_input_size) == (
        NAME,
        "c3_in1k",
        3,
        96,
        128,
    )
    assert (spec.crop_pct, spec.interpolation) == (0.8, "bilinear")
    assert (spec.mean, spec.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert spec.class_names == ("n01", "n02", "n03") and spec.class_descriptions == ("daisy", "rose", "tulip")
    assert spec.top1 == jaxvision.model_spec(NAME).top1  # the tag's own
    settings = jaxvision.preprocess(model)
    assert (settings.size, settings.interpolation, settings.mean) == (96, "bilinear", (0.5, 0.4, 0.3))


def test_a_repository_needs_no_pretrained_and_can_be_weights(hub, network):
    x, expected = answers(network)
    for model in (
        jaxvision.create_model(f"hf-hub:{REPOSITORY}"),
        jaxvision.create_model(f"hf_hub:{REPOSITORY}@v1"),  # timm takes this spelling, too
        jaxvision.create_model(NAME, weights="resnet10t.c3_in1k"),
        jaxvision.create_model(NAME, weights=f"hf-hub:{REPOSITORY}", num_classes=3),
    ):
        assert relative_error(model(x), expected) < 1e-4
        assert model.spec.class_names == ("n01", "n02", "n03")


def test_loading_into_a_model_brings_the_settings(hub, network):
    model = jaxvision.create_model(NAME, num_classes=3, key=jax.random.key(1))
    model = jaxvision.load_weights(model, f"hf-hub:{REPOSITORY}")
    x, expected = answers(network)
    assert relative_error(model(x), expected) < 1e-4
    assert model.spec.mean == (0.5, 0.4, 0.3)
    with pytest.warns(UserWarning, match="the file has 3 classes, the model 5"):
        other = jaxvision.create_model(f"hf-hub:{REPOSITORY}", num_classes=5, key=jax.random.key(1))
    assert other.num_classes == other.spec.num_classes == 5
    assert other.spec.class_names is None and other.spec.top1 is None
    assert model.with_classifier(3, key=jax.random.key(2)).spec.class_names is None


def test_names_of_classes_follow_the_classifier(hub, network):
    key, state = jax.random.key(1), {name: value.clone() for name, value in network.state_dict().items()}
    named = jaxvision.create_model(f"hf-hub:{REPOSITORY}")
    assert jaxvision.load_weights(named, state).spec.class_names is None  # another network of three classes
    with pytest.warns(UserWarning, match="fresh classifier"):  # a classifier for other classes is kept, with its names
        other = jaxvision.create_model(NAME, num_classes=5, weights=state, key=key)
    other = other.replace(spec=dataclasses.replace(other.spec, class_names=tuple("abcde")))
    with pytest.warns(UserWarning, match="keeps its classifier"):
        loaded = jaxvision.load_weights(other, f"hf-hub:{REPOSITORY}")
    assert loaded.spec.class_names == tuple("abcde") and loaded.spec.mean == (0.5, 0.4, 0.3)
    np.testing.assert_array_equal(loaded.params["fc"]["weight"], other.params["fc"]["weight"])


def test_a_config_of_other_classes_than_the_files_is_refused(hub):
    changed(hub, num_classes=5, label_names=list("abcde"))
    with pytest.raises(UserError, match=r"model\.safetensors has 3 classes, its config\.json says 5"):
        jaxvision.create_model(f"hf-hub:{REPOSITORY}")


def test_accuracies_are_those_of_timms_repositories_alone(hub, weights):
    hub.files["me/x", "config.json"] = json.dumps(CONFIG).encode()
    hub.files["me/x", "model.safetensors"] = weights
    spec = jaxvision.create_model("hf-hub:me/x").spec
    assert (spec.top1, spec.top1_at_test, spec.published) == (None, None, False)


def test_configs_as_others_write_them(hub, tmp_path):
    """On one level, with names by number, some missing; of four channels; escape codes of terminals are removed."""
    flat = CONFIG["pretrained_cfg"] | {"architecture": NAME, "num_classes": 3, "mean": [0.5], "model_args": None,
                                       "labels": {"0": "a\x1b[31m", "2": "c"}}  # fmt: skip
    hub.files[REPOSITORY, "config.json"] = json.dumps(flat).encode()
    spec = jaxvision.create_model(NAME, pretrained=True).spec
    assert spec.class_names == ("a[31m", "class 1", "c") and spec.mean == (0.5, 0.5, 0.5)
    changed(hub, pretrained_cfg=CONFIG["pretrained_cfg"] | {"mean": [0.5, 0.4, 0.3, 0.5]})
    assert jaxvision.create_model(NAME, pretrained=True, cache_dir=tmp_path / "b").spec.mean == (0.5, 0.4, 0.3)


def test_the_second_time_nothing_is_downloaded(hub):
    jaxvision.create_model(NAME, pretrained=True)
    assert len(store(hub)) == 1
    hub.requests.clear()
    jaxvision.create_model(NAME, pretrained=True)
    assert not [request for request in hub.requests if request.startswith("GET")]
    hub.busy = True  # nor is the hub needed
    jaxvision.create_model(NAME, pretrained=True)


def test_a_revision_and_a_cache_folder(hub, tmp_path):
    jaxvision.create_model(NAME, pretrained=True, revision="v1", cache_dir=tmp_path / "mine")
    assert any("/resolve/v1/config.json" in request for request in hub.requests)
    assert f"HEAD /{REPOSITORY}/resolve/{fake_hub.COMMIT}/model.safetensors" in hub.requests  # of the same commit
    assert list((tmp_path / "mine").rglob("model.safetensors")) and not (tmp_path / "cache").exists()


def test_a_broken_connection_is_taken_up_where_it_broke(hub, weights, network):
    hub.cut = 12_000_000  # of 20 MB; the client writes 10 MiB at a time
    model = jaxvision.create_model(NAME, pretrained=True)
    first, second = store(hub)
    assert "bytes=" not in first and second.endswith(f"bytes={10 << 20}-")
    x, expected = answers(network)
    assert relative_error(model(x), expected) < 1e-4


def test_torchs_file_where_there_is_no_safetensors(hub, network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "w.bin")
    hub.files[REPOSITORY, "pytorch_model.bin"] = (tmp_path / "w.bin").read_bytes()
    del hub.files[REPOSITORY, "model.safetensors"]
    x, expected = answers(network)
    assert relative_error(jaxvision.create_model(NAME, pretrained=True)(x), expected) < 1e-4


def test_pickled_code_of_a_repository_is_refused(hub, tmp_path):
    torch.save({"state_dict": np.array}, tmp_path / "w.bin")
    hub.files[REPOSITORY, "pytorch_model.bin"] = (tmp_path / "w.bin").read_bytes()
    del hub.files[REPOSITORY, "model.safetensors"]
    with pytest.raises(UserError, match="pickled code"):
        jaxvision.create_model(NAME, pretrained=True)


def test_a_damaged_download_and_a_damaged_cache_are_refused(hub, tmp_path):
    hub.damage = True
    with pytest.raises(UserError, match=r"is damaged: its SHA-256 is .* Delete .*/blobs/"):
        jaxvision.create_model(NAME, pretrained=True)
    hub.damage = False
    (blob,) = [p for p in (tmp_path / "cache").rglob("blobs/*") if len(p.name) == 64]
    blob.unlink()  # as the message says
    jaxvision.create_model(NAME, pretrained=True)
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):
        jaxvision.create_model(NAME, pretrained=True)


def private(hub):
    hub.token = "secret"


def gated(hub):
    hub.gated = frozenset({REPOSITORY})


def busy(hub):
    hub.busy = True


def without_weights(hub):
    del hub.files[REPOSITORY, "model.safetensors"]


def without_architecture(hub):
    hub.files[REPOSITORY, "config.json"] = b'{"model_type": "bert"}'


def changed(hub, **fields):
    hub.files[REPOSITORY, "config.json"] = json.dumps(CONFIG | fields).encode()


@pytest.mark.parametrize(
    ("fault", "name", "message"),
    [
        (private, NAME, r"no repository timm/resnet10t.c3_in1k, or it is private: check the name, or set HF_TOKEN\.$"),
        (None, "hf-hub:timm/resnet10t.c3_in1q", r"has no .*HF_TOKEN\. Did you mean \"timm/resnet10t.c3_in1k\"\?"),
        (None, "hf-hub:resnet10t.c3_in1k", r"has no .*HF_TOKEN\. Did you mean \"timm/resnet10t.c3_in1k\"\?"),
        (gated, NAME, "is gated: accept its terms at http://127.0.0.1:.*/timm/resnet10t.c3_in1k"),
        (busy, NAME, r"allows no more downloads for now \(429"),
        (None, "hf-hub:me/nothing", "has no repository me/nothing, or it is private"),
        (None, f"hf-hub:{REPOSITORY}@v2", "at revision v2: there is no such revision"),
        (None, "hf-hub:a/b/c", 'names no repository of the hub: expected "owner/name"'),
        (None, "hf-hub:me/x@", "expected a revision after @"),
        (None, "resnet10t.c3_in2k", 'no weights .* Did you mean "c3_in1k"'),
        (None, "seresnet18", "nobody publishes weights of seresnet18"),
        (None, "timm/resnet10t", 'expected "hf-hub:timm/resnet10t", or "local-dir:timm/resnet10t" for a folder'),
        (without_weights, NAME, "has none of the files model.safetensors, pytorch_model.bin"),
        (without_architecture, NAME, "names no architecture: it is not of a model that timm can load"),
        (lambda hub: changed(hub, architecture="resnet10tt"), NAME, 'unknown model .* Did you mean "resnet10t"'),
        (lambda hub: changed(hub, num_classes=0), NAME, r"has no classifier \(num_classes = 0\)"),
        (lambda hub: changed(hub, num_classes=[3]), NAME, r"num_classes = \[3\] is not supported"),
        (lambda hub: changed(hub, architecture="resnet10t.x"), NAME, "no weights 'x' of resnet10t"),
        (lambda hub: changed(hub, pretrained_cfg={"std": [0, 1, 1]}), NAME, "expected a positive number"),
        (lambda hub: changed(hub, pretrained_cfg={"crop_pct": 0}), NAME, "expected a positive number"),
        (lambda hub: changed(hub, model_args={"in_chans": -1}), NAME, "expected a whole number"),
        (lambda hub: changed(hub, pretrained_cfg={"interpolation": "lanczos"}), NAME, "expected one of bicubic"),
        (lambda hub: changed(hub, label_names=["a"]), NAME, r"names 1 classes \(label_names\) of 3"),
        (lambda hub: changed(hub, model_args={"global_pool": "max"}), NAME, 'global_pool = "max" is not .*: .*avg'),
        (lambda hub: changed(hub, global_pool="max"), NAME, 'global_pool = "max" is not supported: .*avg'),
        (lambda hub: changed(hub, model_args={"block": "x"}), NAME, r"no arguments block \(model_args\)"),
        (lambda hub: changed(hub, pretrained_cfg={"mean": "red"}), NAME, 'mean = "red" is not supported'),
        (lambda hub: changed(hub, pretrained_cfg={"input_size": [3, 96, 64]}), NAME, "expected a square"),
        (lambda hub: changed(hub, pretrained_cfg=[]), NAME, "pretrained_cfg: expected an object, got list"),
    ],
)  # fmt: skip
def test_faults_are_one_clear_message(hub, fault, name, message):
    if fault:
        fault(hub)
    with pytest.raises(UserError, match=message) as error:
        jaxvision.create_model(name, pretrained=True)
    assert "\n" not in str(error.value)


def test_another_models_weights_are_refused(hub):
    with pytest.raises(UserError, match="holds a resnet10t, not a resnet18"):
        jaxvision.create_model("resnet18", weights=f"hf-hub:{REPOSITORY}")


def test_a_private_repository_with_its_token(hub):
    private(hub)
    assert jaxvision.create_model(NAME, pretrained=True, token="secret").num_classes == 3
    assert store(hub)


def test_without_network(hub, monkeypatch, tmp_path):
    access = HubAccess()
    fetch(REPOSITORY, ["config.json"], access)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
                        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}")  # fmt: skip
    with pytest.raises(
        UserError, match=r"cannot fetch .* refused; and model.safetensors is not in the cache .*weights=FILE"
    ):
        fetch(REPOSITORY, ["model.safetensors"], access)
    assert fetch(REPOSITORY, ["model.safetensors", "config.json"], access).name == "config.json"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set; and model.safetensors is not in the cache"):
        fetch(REPOSITORY, ["model.safetensors"], access)


def test_one_kind_of_weights_only(hub):
    with pytest.raises(UserError, match="one kind of weights only"):
        jaxvision.create_model(NAME, pretrained=True, weights="w.safetensors")
    with pytest.raises(UserError, match="pass pretrained=True for published ones"):
        jaxvision.create_model(NAME)


def test_a_network_without_its_weights_is_built_from_the_config_alone(hub, tmp_path):
    key = jax.random.key(0)
    model = jaxvision.create_model(f"hf-hub:{REPOSITORY}", pretrained=False, key=key)
    assert model.num_classes == 3 and model.spec.mean == (0.5, 0.4, 0.3)
    assert not any("model.safetensors" in request for request in hub.requests) and not store(hub)
    np.testing.assert_array_equal(
        model.params["fc"]["weight"], jaxvision.create_model(NAME, num_classes=3, key=key).params["fc"]["weight"]
    )
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert jaxvision.create_model(f"local-dir:{tmp_path}", pretrained=False, key=key).num_classes == 3


def test_a_revision_of_nothing_on_the_hub_is_refused(hub, network, tmp_path):
    model = jaxvision.create_model(NAME, num_classes=3, key=jax.random.key(0))
    jaxvision.save_pretrained(model, tmp_path)
    refused = pytest.raises(
        UserError, match=r"revision='v1' selects a commit of .* leave it out, or name the repository"
    )
    for weights in (network.state_dict(), tmp_path / "model.safetensors", f"local-dir:{tmp_path}"):
        with refused:
            jaxvision.create_model(NAME, weights=weights, revision="v1")
        with refused:
            jaxvision.load_weights(model, weights, revision="v1")
    with refused:
        jaxvision.create_model(NAME, key=jax.random.key(0), revision="v1")
    with refused:
        jaxvision.create_model(f"local-dir:{tmp_path}", revision="v1")
    with pytest.raises(UserError, match="@v1 with revision='main': pass one revision"):
        jaxvision.create_model(f"hf-hub:{REPOSITORY}@v1", revision="main")
    assert jaxvision.create_model(f"hf-hub:{REPOSITORY}@v1", revision="v1").num_classes == 3


def test_a_download_shows_the_files_name_and_a_retry_is_said_once(hub, monkeypatch, tmp_path):
    said = []
    handler = logging.Handler()  # as importing orbax adds one
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    hub.cut = 12_000_000
    try:
        with terminal.attached(monkeypatch, 60) as shots:
            monkeypatch.setattr("sys.stderr", sys.stdout)
            fetch(REPOSITORY, ["model.safetensors"], HubAccess(cache_dir=tmp_path))
    finally:
        logging.getLogger().removeHandler(handler)
    assert said == [] and len(store(hub)) == 2 and logging.getLogger("huggingface_hub").propagate
    assert re.match(r"model\.safetensors: 100 %\|█+\| 19\.\dM/19\.\dMB, ", shots[-1]) and len(shots[-1].rstrip()) <= 60
