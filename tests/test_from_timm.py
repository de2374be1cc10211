"""docs/from_timm.md: what it says to write here runs, and what it says of timm is timm's."""

import re

import cli
import fake_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision import commands
from jaxvision.main import parse

SECTIONS = {part.partition("\n")[0]: part for part in (cli.ROOT / "docs/from_timm.md").read_text().split("\n## ")[1:]}


def rows(section):
    """Both cells of each row of a section's tables."""
    cells = [line.strip("|").split(" | ") for line in SECTIONS[section].splitlines() if line.startswith("| `")]
    assert all(len(row) == 2 for row in cells) and cells
    return [(left.strip(), right.strip()) for left, right in cells]


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the page says a reader has, in a folder with its files and with a hub that has its weights."""
    key = jax.random.key(0)
    model = jaxvision.create_model("resnet10t", image_size=32, key=key)
    monkeypatch.chdir(tmp_path)
    jaxvision.save_pretrained(model, "folder")
    (tmp_path / "weights.safetensors").write_bytes((tmp_path / "folder" / "model.safetensors").read_bytes())
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save("cat.jpg")
    vit = jaxvision.create_model("vit_tiny_patch16_224", image_size=32, key=key)
    images = jax.random.normal(key, (2, 32, 32, 3))
    files = {
        ("timm/resnet10t.c3_in1k", name): (tmp_path / "folder" / name).read_bytes()
        for name in ("config.json", "model.safetensors")
    }
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with fake_hub.serve(fake_hub.Hub(files)) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        url = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url)
        yield {"jax": jax, "jnp": jnp, "jaxvision": jaxvision, "key": key, "model": model, "vit": vit, "images": images}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:weights adapted")
def test_the_right_column_runs(names):
    results = {}
    for section in ("Models", "Calls", "Parameters"):
        for _, right in rows(section):
            code = re.match(r"`([^`]+)`", right)
            if code is None:
                continue
            statement = code[1] if re.match(r"[\w, ]+ = ", code[1]) else f"result = {code[1]}"
            exec(statement, names)
            results[code[1]] = names.get("result")
    assert len(results) > 30
    assert results['"resnet50" in jaxvision.list_models()'] is True
    assert results["model.embed(images)"].shape == (2, 512) and names["logits"].shape == (2, 1000)
    assert results['jaxvision.preprocess(model)("cat.jpg")'].shape == (1, 176, 176, 3)
    assert names["model"].num_classes == 10 and names["vit"].spec.name == "vit_tiny_patch16_224"


def test_names_of_timm_are_timms():
    from reference import timm

    named = re.findall(r"timm\.((?:models\.)?\w+)", "".join(left for s in SECTIONS for left, _ in rows(s)))
    for name in named:
        place = timm
        for part in name.split("."):
            place = getattr(place, part)
    assert len(named) > 5


def test_fields_and_commands_of_the_page_exist():
    fields = flags = 0
    for _, right in rows("Programs"):
        for code in re.findall(r"`([^`]+)`", right):
            if code.startswith("--config."):
                parse(["--config", "resnet50_a1", code.replace("NAME", "resnet50")])
                fields += 1
            else:
                flags += 1
                assert code.split()[:1] == ["jaxvision"] and code.split()[1] in commands.COMMANDS
    assert fields > 18 and flags > 5
