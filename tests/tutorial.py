"""Runs the code of a page of docs/tutorials in the current folder, block by block, as its reader does.

    python tests/tutorial.py docs/tutorials/classify.md [OLD=>NEW ...]    # prints what each block prints

- `python` blocks run in this process, one after the other; `sh` blocks in bash, where `jaxvision` is this checkout's.
- A block with a title is a file that the reader writes, or a change of one.
- A `text` block is what the block before it printed. Numbers may differ; "..." is a line that stands for any others.
- Nothing else is run. OLD=>NEW replaces a text of the page before it is run, for a shorter run.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Language, title and text of each fenced block."""
    yield from BLOCK.findall(page.read_text())


def applied(diff: str, text: str) -> str:
    """The text after a diff without line numbers, whose parts are separated by ``@@``."""
    for part in diff.split("@@\n"):
        lines = [line if line.strip() else " \n" for line in part.splitlines(keepends=True)]
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(old) == 1, f"{text.count(old)} places for\n{old}"
        text = text.replace(old, new)
    return text


def write(root: Path, kind: str, title: str, text: str) -> None:
    """Writes a new file, or changes one where the block is a diff."""
    path = root / title
    assert path.exists() == (kind == "diff"), title
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(applied(text, path.read_text()) if kind == "diff" else text)


def without_numbers(text: str) -> list[str]:
    """The lines, with "#" for each number and one space for several."""
    return [re.sub(r"\s+", " ", NUMBER.sub("#", line)).strip() for line in text.splitlines() if line.strip()]


def missing(expected: str, printed: str) -> list[str]:
    """Lines of a page's output that were not printed, numbers aside."""
    known = without_numbers(printed)
    return [line for line in without_numbers(expected) if line != "..." and line not in known]


def shell(text: str) -> str:
    """What bash prints for a block; it ends with the first command that fails."""
    done = subprocess.run(["bash", "-ec", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"status {done.returncode} of\n{text}\n{done.stdout}")
    return done.stdout


def python(text: str, names: dict[str, object]) -> str:
    """What a block of Python prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(text, "<page>", "exec"), names)
    return output.getvalue()


def prepare(titles: list[str]) -> None:
    """The current folder as a checkout, and `jaxvision` and `python` on the path.

    It gets the files themselves if the page changes one of them.
    """
    here = Path.cwd()
    copied = any(title.startswith("jaxvision/") for title in titles)
    for folder in ("jaxvision", "configs", "tools") if copied else ():
        shutil.copytree(ROOT / folder, here / folder, ignore=shutil.ignore_patterns("__pycache__"))
    if not copied:
        (here / "tools").symlink_to(ROOT / "tools")
    root = here if copied else ROOT
    sys.path.insert(0, str(root))
    (here / "bin").mkdir()
    for name, arguments in {"jaxvision": "-m jaxvision", "python": ""}.items():
        command = here / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        command.chmod(0o755)
    os.environ |= {"PYTHONPATH": str(root), "PATH": f"{here / 'bin'}:{os.environ['PATH']}"}


def run(page: Path, replacements: list[tuple[str, str]]) -> int:
    """Runs the page; returns how many blocks ran."""
    prepare([title for _, title, _ in blocks(page)])
    names, printed, count, unused = {"__name__": "page"}, "", 0, dict(replacements)
    for language, title, text in blocks(page):
        for old, new in replacements:
            if old in text:
                unused.pop(old, None)
                text = text.replace(old, new)
        if title:
            write(Path(), language, title, text)
        elif language == "text":
            if lines := missing(text, printed):
                raise SystemExit(f"{page.name} shows what was not printed: {lines}\n{printed}")
            continue
        elif language in ("python", "sh"):
            printed = python(text, names) if language == "python" else shell(text)
            print(f"--- {text}\n{printed}", flush=True)
        else:
            continue
        count += 1
    if unused:
        raise SystemExit(f"{page.name} has no {list(unused)}")
    return count


if __name__ == "__main__":
    file, *changes = sys.argv[1:]
    print(f"ran {run(ROOT / file, [tuple(change.split('=>')) for change in changes])} blocks of {file}")
