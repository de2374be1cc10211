"""How the library hangs together: imports point one way, and heavy packages stay where they belong."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cli
import pytest

# A module imports from its own folder and from layers above it in this list. A new module at the top has to be placed.
LAYERS = (
    {"resources"},
    {"errors"},
    {"files", "options", "terminal", "timm_names"},
    {"ops"},
    {"models"},
    {"weights", "inference"},
    {"model", "data", "augment", "optim", "run"},
    {"config", "preprocessing", "create", "save"},
    {"recipes"},
    {"train"},
    {"main"},
    {"__init__"},
    {"commands"},
    {"__main__"},
)
# package -> the only files that may import it, directly.
HEAVY = {
    "tensorflow": ("data/digits.py",),
    "tensorflow_datasets": ("data/digits.py",),
    "clu": ("train/metrics.py",),
    "torch": ("weights/state_dict.py",),
    "timm": (),
    "huggingface_hub": ("weights/hub.py",),
    "jax2onnx": ("inference/onnx.py",),
    "onnx": ("inference/onnx.py",),
    "onnxruntime": ("inference/onnx.py",),
}


def modules() -> dict[str, Path]:
    """Dotted names of the library's modules, a package under its own name, and their files."""
    files = [path for path in Path("jaxvision").rglob("*.py")]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, anywhere in it: "package.name" of ``from package import name``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def internal_imports() -> dict[str, set[str]]:
    """Which modules each module imports."""
    known = modules()

    def module_of(name: str) -> str:
        return name if name in known else name.rpartition(".")[0]

    return {
        name: {module_of(target) for target in imported(path) if target.split(".")[0] == "jaxvision"}
        for name, path in known.items()
    }


def top(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_every_module_has_a_layer():
    placed = set().union(*LAYERS)
    found = {top(module) for module in modules()}
    assert found == placed, f"not placed: {sorted(found - placed)}; gone: {sorted(placed - found)}"


def test_imports_point_one_way():
    rank = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    wrong = [
        f"{module} imports {target}"
        for module, targets in internal_imports().items()
        for target in targets
        if top(target) != top(module) and rank[top(target)] >= rank[top(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_in_a_circle():
    graph = internal_imports()
    # A package that gathers its modules, such as models, is no circle with them.
    for module, targets in graph.items():
        graph[module] = {target for target in targets if not module.startswith(f"{target}.")}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_heavy_packages_are_imported_where_they_are_needed_only():
    for module, path in modules().items():
        for name in imported(path):
            allowed = HEAVY.get(name.split(".")[0])
            assert allowed is None or path.as_posix().endswith(allowed), f"{module} imports {name}"


@pytest.mark.program
def test_training_runs_without_tensorflow_tfds_clu_torch_and_extras(tmp_path):
    """The GPU image lacks these packages; synthetic data must train, save and resume all the same."""
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'tensorflow_datasets', 'clu', 'torch', 'timm', 'simplejpeg', 'cv2',\n"
        "             'tensorboardX', 'google_crc32c', 'array_record'):\n"
        "    sys.modules[name] = None\n"
        "from jaxvision.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    for steps in (4, 6):
        args = cli.arguments(tmp_path, tmp_path, data__name="synthetic", data__synthetic_examples=100, steps=steps,
                             model__image_size=32, data__eval_split="validation")  # fmt: skip
        result = subprocess.run(
            [sys.executable, "-c", code, *args], env=cli.environment(quick=True), capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        assert f"finished at step {steps}" in result.stdout and "100 images" in result.stdout
    assert "resumed from step 4" in result.stdout


def test_importing_the_face_is_light():
    code = (
        "import sys, jaxvision; heavy = {'tensorflow', 'tensorflow_datasets', 'torch', 'clu', 'orbax', 'matplotlib',"
        " 'sklearn'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=cli.environment())
