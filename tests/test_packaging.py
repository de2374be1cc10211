"""What pyproject.toml says of the package agrees with what the package holds and imports."""

import ast
import importlib
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import jaxvision

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())
# torch opens .pth files and scikit-learn holds the digits, both behind a message that says what to install; jaxlib
# comes with jax.
UNDECLARED = {"torch", "scikit-learn", "jaxlib"}


def names(requirements):
    """Distribution names of requirements, in one spelling."""
    return {re.split(r"[^\w.-]", text)[0].lower().replace("_", "-") for text in requirements}


def test_every_data_file_is_in_the_wheel():
    declared = {
        path
        for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in Path(*package.split(".")).glob(pattern)
        if path.is_file()
    }
    files = {path for path in Path("jaxvision").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files and declared == files


def test_the_version_is_that_of_the_distribution(monkeypatch):
    stated = PROJECT["project"]["version"]
    assert jaxvision.__version__ == stated, "installed in another version: run `make install` again"
    monkeypatch.setattr(importlib.metadata, "version", lambda name: {"jaxvision": "9.8.7"}[name])
    assert importlib.reload(jaxvision).__version__ == "9.8.7"
    monkeypatch.undo()
    assert importlib.reload(jaxvision).__version__ == stated


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
