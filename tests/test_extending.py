"""docs/extending.md: its steps, done to a copy of the library, give what it promises."""

import json
import re
import shutil
import subprocess
import sys

import cli
import numpy as np
import pytest
from PIL import Image
from tutorial import BLOCK, write

PAGE = (cli.ROOT / "docs" / "extending.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """The root of a copy of the library after all steps of the page."""
    root = tmp_path_factory.mktemp("extended")
    for folder in ("jaxvision", "configs"):
        shutil.copytree(cli.ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for kind, title, text in BLOCK.findall(PAGE):
        if title:
            write(root, kind, title, text)
    return root


def python(root, *arguments):
    environment = cli.environment(quick=True) | {"PYTHONPATH": str(root)}
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_each_section_counts_the_files_that_it_touches():
    assert len(SECTIONS) == 5
    for name, text in SECTIONS.items():
        touched = {title for _, title, _ in BLOCK.findall(text) if title}
        assert re.findall(r"Files touched: (\d)", text) == [str(len(touched))], name


def test_the_examples_pass_the_lint_of_the_library(extended):
    files = sorted({title for _, title, _ in BLOCK.findall(PAGE) if title.endswith(".py")})
    settings = ["--no-cache", "--config", cli.ROOT / "pyproject.toml"]
    python(extended, "-m", "ruff", "check", *settings, *files)
    python(extended, "-m", "ruff", "format", "--check", *settings, *files)


# What comes after the page's own code, which creates the new model and its inputs.
CHECKS = """
import numpy as np
from jaxvision.models.registry import lookup
from jaxvision.models.variables import flat_shapes
from jaxvision.optim.groups import rate_multiples
from jaxvision.optim.rules import ALL
from jaxvision.weights import loading

module = model.module
assert "jaxvision/models/plainnet.py" in sys.modules[type(module).__module__].__file__
assert "plainnet_s" in jaxvision.list_models("plain*")
assert model(images).shape == (2, 10) and model.embed(images).shape == (2, model.num_features) == (2, 64)
assert [feature.shape for feature in model.features(images)] == [(2, 16, 16, 16), (2, 8, 8, 32), (2, 4, 4, 64)]
np.testing.assert_array_equal(again(images), model(images))
np.testing.assert_allclose(jaxvision.fuse(model)(images), model(images), atol=1e-4)
assert model.with_image_size(96) is model and model.with_classifier(3, key=jax.random.key(0)).num_classes == 3
count = sum(np.prod(shape) for shape in flat_shapes(lookup("plainnet_s")[0](**lookup("plainnet_s")[1]), 3).values())
assert round(count / 1e6, 2) == model.spec.params_m, count

published = {name.replace("head.", "classifier."): value for name, value in weights.items()}
assert "classifier.weight" in published
np.testing.assert_array_equal(jaxvision.create_model("plainnet_s", weights=published)(images), model(images))

params = model.variables["params"]
rates = rate_multiples(params, ALL, groups=module.layer_groups, decay=0.5)
found = {name: rates[name]["conv1"]["weight"] for name in params if name.startswith("stages")}
assert found == {"stages.0.0": 0.5**4, "stages.1.0": 0.5**3, "stages.1.1": 0.5**2, "stages.2.0": 0.5}
assert rates["stem.conv"]["weight"] == 0.5**5 and rates["head"]["bias"] == 1

training = module.clone(drop_rate=0.5, drop_path_rate=0.5, remat=True)
rngs = {"dropout": jax.random.key(0), "drop_path": jax.random.key(1)}
logits, updated = training.apply(model.variables, images, train=True, rngs=rngs, mutable=["batch_stats"])
assert logits.shape == (2, 10) and np.abs(updated["batch_stats"]["stem.bn"]["running_mean"]).max() > 0
"""
STAGE = """
from jaxvision.augment.config import AugmentConfig
from jaxvision.augment.program import make_augment

pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)

def augmented(share):
    config = AugmentConfig(flip=False, grayscale=share)
    program = make_augment(config, seed=0, mean=(0, 0, 0), std=(1, 1, 1), dtype=np.float32)
    return np.asarray(program(pixels, np.int32(0)))

gray = [(augmented(share) == augmented(share)[..., :1]).all((1, 2, 3)).mean() for share in (0.0, 0.5, 1.0)]
assert gray[0] == 0 and 0.2 < gray[1] < 0.8 and gray[2] == 1, gray
kept = ~(augmented(0.5) == augmented(0.5)[..., :1]).all((1, 2, 3))
np.testing.assert_array_equal(augmented(0.5)[kept], augmented(0.0)[kept])
"""
OPTIMIZER = """
from jaxvision.optim.optimizers import OptimizerConfig, make_optimizer

params = {"fc": {"weight": np.array([[1.0, -2.0]]), "bias": np.array([3.0])}}
gradients = {"fc": {"weight": np.array([[0.3, -0.1]]), "bias": np.array([0.2])}}
optimizer = make_optimizer(OptimizerConfig(name="lion", weight_decay=0.1), params)
updates, _ = optimizer.update(gradients, optimizer.init(params), params, learning_rate=0.5)
np.testing.assert_allclose(updates["fc"]["weight"], [[-0.5 * (1 + 0.1), 0.5 * (1 + 0.2)]], rtol=1e-6)
np.testing.assert_allclose(updates["fc"]["bias"], [-0.5], rtol=1e-6)
"""


@pytest.mark.slow
def test_model_stage_and_optimizer_do_what_they_should(extended):
    own = [text for kind, title, text in BLOCK.findall(PAGE) if kind == "python" and not title]
    assert len(own) == 1
    shown = python(extended, "-c", "import sys\n" + own[0] + CHECKS + STAGE + OPTIMIZER)
    assert shown == "(2, 10) (2, 64) [(2, 16, 16, 16), (2, 8, 8, 32), (2, 4, 4, 64)]\n"


@pytest.mark.program
def test_a_run_with_all_of_them(extended, tmp_path):
    """The page's commands as one."""
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for split, count in (("train", 32), ("test", 12)):
        lines = []
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(photos / f"{split} {i}.png")
            lines.append(f"{split} {i}.png {i % 4}")
        (photos / f"{split}.txt").write_text("\n".join(lines))
    commands = re.findall(r"^    python -m jaxvision\.main (.*)", PAGE, re.MULTILINE)
    assert len(commands) == 4
    flags = [flag for command in commands for flag in command.split()[2:]]
    assert {command.split()[1] for command in commands} == {"configs/resnet_rs50.py:digits"}
    flags = [flag.replace("=photos", f"={photos}") for flag in flags]
    workdir = tmp_path / "run"
    python(
        extended, "-m", "jaxvision.main", "--config", "configs/resnet_rs50.py:digits", "--workdir", workdir, *flags,
        "--config.steps=4", "--config.batch_size=16", "--config.log_every=1", "--config.optimizer.layer_decay=0.8",
        "--config.augment.randaugment_layers=0", "--config.data.train_split=train", "--config.data.eval_split=test",
        "--config.optimizer.learning_rate=0.001",
    )  # fmt: skip
    records = cli.log_lines(workdir)
    evaluated = [record for record in records if "top1" in record][-1]
    assert evaluated["top1"] <= evaluated["top3"] <= evaluated["top5"] == 100 and "ema_top3" in evaluated
    assert evaluated["examples"] == 12
    config = json.loads((workdir / "config.json").read_text())
    chosen = [config["model"]["name"], config["data"]["name"], config["optimizer"]["name"]]
    assert chosen == ["plainnet_s", "list", "lion"] and config["augment"]["grayscale"] == 0.2
