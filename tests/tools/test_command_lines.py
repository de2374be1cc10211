"""Every tool says at once what it is for and how it is called, with an example; its --help imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = sorted(
    path
    for path in Path("tools").rglob("*.py")
    if 'if __name__ == "__main__":' in path.read_text() and path.name != "worker.py"  # which bench/main.py calls
)
# Their --help still imports jax, or torch.
SLOW = ("show_augment.py", "augment.py", "check.py", "trials.py")
HEAVY = ("jax", "jaxvision", "torch", "timm", "tensorflow", "tensorflow_datasets", "optuna", "matplotlib", "cv2")


def test_the_list_of_tools_is_not_empty():
    assert len(TOOLS) >= 15 and {"validate.py", "models.py", "sweep.py"} <= {path.name for path in TOOLS}


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.relative_to("tools").as_posix())
def test_help_is_quick_and_shows_purpose_and_example(path):
    heavy = () if path.name in SLOW else HEAVY
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({heavy}))\n"
        f"sys.argv = [{str(path)!r}, '--help']; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    doc = ast.get_docstring(ast.parse(path.read_text()))
    first = doc.splitlines()[0]
    assert first in done.stdout and first[-1] in ".?`:" and len(first) > 30
    assert f"python {path.as_posix()} " in doc or "  make " in doc, "no example"
