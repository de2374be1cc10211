"""Where this installation keeps the recipes (``configs``) and the programs of the commands (``tools``).

In a checkout they stand beside the package; a wheel carries them inside it, in the same arrangement.
"""

from __future__ import annotations

from pathlib import Path

DISTRIBUTION = "jaxvision-models"  # "jaxvision" is another's on the package index
_PACKAGE = Path(__file__).resolve().parent
_CARRIED = _PACKAGE / "_files"


def root() -> Path:
    """The folder that holds ``configs`` and ``tools``."""
    return _CARRIED if _CARRIED.is_dir() else _PACKAGE.parent


def install_command(extra: str) -> str:
    """The command that adds an optional extra to this installation."""
    return f"pip install '{DISTRIBUTION}[{extra}]'" if _CARRIED.is_dir() else f"pip install -e '.[{extra}]'"


def recipes() -> dict[str, Path]:
    """The published recipes: name to config file."""
    return {path.stem: path for path in sorted((root() / "configs").glob("*.py"))}
