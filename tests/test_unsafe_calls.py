"""Nothing in the project runs code that a data file brings: no pickles, no eval, no unsafe loaders."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = ("eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.load", "yaml.unsafe_load")
# (file, call) with the reason; none is needed.
ALLOWED: dict[tuple[str, str], str] = {}


def unsafe(source):
    """The unsafe calls of a module's source, as "line: call"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "yaml", "marshal", "dill", "shelve"):
            found.append((node.lineno, f"from {node.module} import"))
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in FORBIDDEN or given.get("allow_pickle", "False") != "False":
            found.append((node.lineno, name))
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append((node.lineno, name))
    return found


@pytest.mark.parametrize("folder", ["jaxvision", "tools", "configs"])
def test_no_call_runs_code_of_a_file(folder):
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        calls = unsafe(path.read_text(encoding="utf-8"))
        found += [f"{name}:{line}: {call}" for line, call in calls if (name, call) not in ALLOWED]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    ["eval(x)", "exec(x)", "pickle.load(f)", "from pickle import load", "yaml.load(f)", "torch.load(f)",
     "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)"],
)  # fmt: skip
def test_each_unsafe_call_is_found(source):
    assert unsafe(source) and not unsafe("model.eval(); torch.load(f, weights_only=True); np.load(f)")
