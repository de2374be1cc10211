"""Prints the page of what each recipe's source states, docs/recipe_sources.md.

python tools/parity/recipes/make_page.py > docs/recipe_sources.md    # part of make docs
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()

    from tools.parity.recipes.table import page

    sys.stdout.write(page())
