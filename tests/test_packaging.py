"""What pyproject.toml says of the package agrees with what the package holds and imports."""

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import cli
import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision import commands

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())
# torch opens .pth files and scikit-learn holds the digits, both behind a message that says what to install; jaxlib
# comes with jax.
UNDECLARED = {"torch", "scikit-learn", "jaxlib"}


def names(requirements):
    """Distribution names of requirements, in one spelling."""
    return {re.split(r"[^\w.-]", text)[0].lower().replace("_", "-") for text in requirements}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ".")
    return next(folder.glob("*.whl"))


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_the_package_the_recipes_and_the_tools_once(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = [name for name in archive.namelist() if ".dist-info/" not in name]
    files = [
        path.as_posix()
        for folder in ("jaxvision", "configs", "tools")
        for path in Path(folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert len(files) > 150
    assert sorted(packed) == sorted(f if f.startswith("jaxvision/") else f"jaxvision/_files/{f}" for f in files)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with an environment of the wheel and its dependencies, which are those of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    # What a .pth file names is importable. The editable installation there is not: its own .pth is not read.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    (folder / "elsewhere").mkdir()
    return folder


def jaxvision_command(installed, *arguments, program="jaxvision"):
    """Output of the installed command in an empty folder, as for a user who has no checkout."""
    environment = {k: v for k, v in cli.environment(quick=True).items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [installed / "venv" / "bin" / program, *map(str, arguments)],
        cwd=installed / "elsewhere", env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.program
def test_an_installed_package_trains_and_predicts_from_any_folder(installed):
    place = jaxvision_command(installed, "-c", "import jaxvision; print(jaxvision.__file__)", program="python")
    assert place.startswith(str(installed))  # and not this checkout
    tiny = ("model.name=resnet10t", "steps=10", "batch_size=16", "data.train_split=train[:360]")
    fields = [f"--config.{field}" for field in (*tiny, "data.eval_split=test[:90]")]
    output = jaxvision_command(installed, "train", "--config", "resnet_rs50:digits", *fields)
    run = installed / "elsewhere" / "runs" / "resnet_rs50_digits_resnet10t"
    assert "finished at step 10" in output and (run / "curves.png").is_file()
    assert "top-1" in jaxvision_command(installed, "eval", "--config", run)
    photo = installed / "elsewhere" / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(photo)
    assert "photo.png" in jaxvision_command(installed, "predict", photo, "--weights", run, "--topk", "2")


@pytest.mark.program
def test_every_command_of_an_installed_package_has_its_help(installed):
    output = jaxvision_command(installed)
    assert all(f"  {name} " in output for name in commands.COMMANDS)
    assert jaxvision_command(installed, "--version") == f"jaxvision {PROJECT['project']['version']}\n"
    for name in commands.COMMANDS:
        output = jaxvision_command(installed, name, "--help")
        assert f"usage: jaxvision {name} " in output and "python tools/" not in output, name


def test_a_mistyped_command_is_told(capsys):
    assert commands.main(["predct"]) == 2
    assert "no command 'predct'. Did you mean \"predict\"?" in capsys.readouterr().err


def test_the_version_is_that_of_the_distribution(monkeypatch):
    stated = PROJECT["project"]["version"]
    assert jaxvision.__version__ == stated, "installed in another version: run `make install` again"
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {"jaxvision-models": "9.8.7"}[name])
    assert importlib.reload(jaxvision).__version__ == "9.8.7"
    monkeypatch.undo()
    assert importlib.reload(jaxvision).__version__ == stated


def test_the_package_is_the_training_program():
    ended = subprocess.run([sys.executable, "-m", "jaxvision"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stderr.startswith("error: --config is missing")


def test_core_dependencies_are_what_the_package_imports():
    distributions = importlib.metadata.packages_distributions()
    imported = set()
    for path in Path("jaxvision").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            imported |= {module.split(".")[0] for module in modules}
    imported -= {"jaxvision", *sys.stdlib_module_names}
    core = names(PROJECT["project"]["dependencies"])
    found = [names(distributions.get(module, [module])) for module in imported]
    used = {min(several & core or several) for several in found}  # orbax is a module of two distributions
    assert used - core - UNDECLARED == {"tensorflow-datasets", "jax2onnx", "onnx", "onnxruntime"}  # of extras
    assert core - used == set()


def test_the_core_installs_neither_tensorflow_nor_what_only_tools_and_tests_use():
    """Neither directly nor through another package."""
    seen, todo = set(), names(PROJECT["project"]["dependencies"])
    while todo:
        name = todo.pop()
        seen.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # for another system or Python
            continue
        todo |= names(text for text in requirements if not re.search(r"extra\s*==", text)) - seen
    assert len(seen) > 30
    heavy = {"tensorflow", "tensorflow-cpu", "tensorflow-datasets", "pyarrow", "scikit-learn", "optuna", "torch"}
    assert not heavy & seen
