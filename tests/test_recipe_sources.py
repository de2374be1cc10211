"""Every recipe against the values that its source states (tests/recipes), field by field.

The values were computed from the sources' own formulas by tools/parity/recipes; this test needs neither torch nor
TensorFlow. A difference that is meant is stated in tools/parity/recipes/differences.py, and has to be one.
"""

import ast
from pathlib import Path

import pytest

from jaxvision import recipes
from tools.parity.recipes import compare, differences, table

FACTS = compare.fixtures()
CASES = [(recipe, field) for recipe in FACTS for field, _ in compare.compared(recipe)]


@pytest.mark.parametrize(("recipe", "field"), CASES, ids=[f"{recipe} {field}" for recipe, field in CASES])
def test_recipe_is_its_sources(recipe, field):
    found = compare.difference(recipe, field, FACTS[recipe][field])
    stated = differences.reason(recipe, field)
    if stated is None:
        assert found is None, f"{recipe}, {field}: {found} ({FACTS[recipe][field]['where']})"
    else:
        assert found is not None, f"{recipe}, {field} is stated to differ ({stated}) and does not"


def test_stated_differences_name_recipes_and_fields():
    unused = [d for d in differences.DIFFERENCES if not any(d.covers(recipe, field) for recipe, field in CASES)]
    assert not unused


def test_every_published_recipe_has_facts():
    """A new config, or a new variant, has to be compared, too."""
    from test_recipes import RECIPES

    stated = {recipe.partition(":")[0] for recipe in FACTS}
    assert stated == set(RECIPES) - {"finetune"}


def test_the_page_of_the_sources_is_current():
    assert Path("docs/recipe_sources.md").read_text() == table.page(), "make docs writes it anew"


@pytest.mark.parametrize("name", sorted({r.partition(":")[0] for r, f in CASES if differences.reason(r, "steps")}))
def test_a_length_that_is_not_the_source_s_is_named_in_the_header(name):
    header = ast.get_docstring(ast.parse(Path(f"configs/{name}.py").read_text()))
    if "strikes_back" in header:  # says what the four recipes share
        header += recipes.strikes_back.__doc__
    assert "partial batch" in header or "is rounded up" in header
