"""Names of models and weights that are spelled in another way: the first message has the right spelling."""

import jax
import pytest

import jaxvision
from jaxvision.errors import UserError

KEY = jax.random.key(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of this test with a model in ``saved10``."""
    monkeypatch.chdir(tmp_path)
    jaxvision.save_pretrained(jaxvision.create_model("resnet10t", num_classes=3, key=KEY), "saved10")
    return tmp_path


@pytest.mark.parametrize("how", [{}, {"pretrained": True}, {"key": KEY}])
def test_the_first_message_has_the_right_spelling_of_a_model(folder, how):
    (folder / "w.safetensors").touch()
    (folder / "runs" / "checkpoints").mkdir(parents=True)
    (folder / "configs").mkdir()
    (folder / "configs" / "my_recipe.py").touch()
    for name, message in (
        ("timm/resnet50.a1_in1k", 'expected "hf-hub:timm/resnet50.a1_in1k"'),
        ("hfhub:timm/resnet50.a1_in1k", 'unknown prefix "hfhub:" .* expected "hf-hub:timm/resnet50.a1_in1k"'),
        ("local_dir:saved10", 'unknown prefix "local_dir:" .*, or "local-dir:saved10"'),
        ("saved10", 'it is a folder, write "local-dir:saved10"'),
        (f"{folder}/saved10", f'it is a folder, write "local-dir:{folder}/saved10"'),
        ("runs", "'runs': it is the workdir of a training run: `jaxvision publish runs --out DIR`"),
        ("local-dir:runs", "local-dir:runs: it is the workdir of a training run: `jaxvision publish runs"),
        ("w.safetensors", 'it is a file, write the name of its model, and weights="w.safetensors"'),
        ("resnet50.A1_IN1K", 'no weights .* Did you mean "a1_in1k"'),
        ("ResNet50", 'unknown model .* Did you mean "resnet50"'),
        ("resnet50.a1_in1q", 'no weights .* Did you mean "a1_in1k"'),
        ("resnet5O", 'unknown model .* Did you mean "resnet50"'),
        ("resnet50_a1_in1k", 'unknown model .* Did you mean "resnet50.a1_in1k"'),
        ("my_recipe", "it is a recipe, which is trained with --config configs/my_recipe.py"),
        (folder, "expected the name of a model, a string"),
    ):
        with pytest.raises(UserError, match=message):
            jaxvision.create_model(name, **how)
    assert jaxvision.create_model("local-dir:saved10").num_classes == 3


def test_the_message_about_weights_has_the_right_spelling(folder):
    (folder / "runs" / "checkpoints").mkdir(parents=True)
    (folder / "empty").mkdir()
    model = jaxvision.create_model("resnet10t", key=KEY)
    for text, message in (
        ("saved10", 'saved10 is a folder: write "local-dir:saved10"'),
        ("runs", "is the workdir of a training run: `jaxvision publish runs --out DIR`"),
        ("empty", "empty is a folder: expected a .safetensors or .pth file"),
        ("resnet10t.c3_in1q", r"not found: .* As published weights: no weights 'c3_in1q' .* mean \"c3_in1k\"\?"),
        ("resnet10t.TGA", "As published weights: no weights 'TGA' of resnet10t. Its tags are c3_in1k"),
        ("resnet1ot.c3_in1k", r"not found: resnet1ot.c3_in1k. Similar names .*, resnet10t.c3_in1k, "),
        ("timm/resnet10t.c3_in1k", 'For a repository of the hub write "hf-hub:timm/resnet10t.c3_in1k"'),
        ("hfhub:timm/x", 'prefix "hfhub:" is unknown: expected "hf-hub:timm/x"'),
        ("resnet10t.pth", r"weights file not found: resnet10t\.pth\.$"),
    ):
        with pytest.raises(UserError, match=message):
            jaxvision.load_weights(model, text)
        with pytest.raises(UserError, match=message):
            jaxvision.create_model("resnet10t", weights=text)
    assert jaxvision.create_model("resnet10t", weights="local-dir:saved10").num_classes == 3
