"""What a user may have meant by a path at which there is no file of weights."""

from __future__ import annotations

import difflib
from pathlib import Path

from jaxvision.errors import UserError
from jaxvision.files import workdir_hint
from jaxvision.models.registry import list_models, model_spec

FILES = (".safetensors", ".pth", ".pt", ".bin", ".tar")


def of_folder(path: Path) -> str:
    """What to write instead of a folder."""
    if hint := workdir_hint(path):
        return hint
    if (path / "config.json").is_file():
        return f'write "local-dir:{path}"'
    return "expected a .safetensors or .pth file"


def of_missing(path: Path) -> str:
    """A sentence that begins with a space and names weights of a similar name, or an empty string."""
    text = path.as_posix()
    if path.suffix in FILES:
        return ""
    prefix, colon, rest = text.partition(":")
    if colon and len(prefix) > 1:  # one letter is a drive of Windows
        return f' The prefix "{prefix}:" is unknown: expected "hf-hub:{rest}", or "local-dir:{rest}".'
    if text.count("/") == 1 and not path.parent.is_dir():
        return f' For a repository of the hub write "hf-hub:{text}".'
    if text.partition(".")[0] in list_models():
        try:
            model_spec(text)
        except UserError as error:
            return f" As published weights: {error}"
    near = difflib.get_close_matches(text, list_models(pretrained=True), n=3)
    return f" Similar names of published weights: {', '.join(near)}." if near else ""
