"""``make planted`` runs the tests with each error; here is only whether it could."""

import ast
from pathlib import Path

import pytest
from planted_errors import ERRORS, ROOT, plant


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.what)
def test_the_text_to_replace_and_the_test_are_there(error, tmp_path):
    copy = tmp_path / error.file
    copy.parent.mkdir(parents=True)
    copy.write_text((ROOT / error.file).read_text())
    plant(tmp_path, error)
    ast.parse(copy.read_text())
    file, _, name = error.test.partition("::")
    functions = {
        node.name for node in ast.parse(Path(ROOT, file).read_text()).body if isinstance(node, ast.FunctionDef)
    }
    assert name.partition("[")[0] in functions
