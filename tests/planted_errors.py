"""Plants one error after the other into a copy of the sources and shows that the tests notice: ``make planted``.

    python tests/planted_errors.py [WORD ...]    # only the errors whose description holds one of the words

Each error replaces a text that occurs once in its file; the named test has to fail with it and to pass without. A
survivor, or a text that is not found, ends the command with status 1.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from planted import images, networks, training
from planted.error import Planted

ROOT = Path(__file__).resolve().parent.parent


ERRORS = (*networks.ERRORS, *images.ERRORS, *training.ERRORS)


def plant(root: Path, error: Planted) -> None:
    """Writes the error into a copy of the sources; raises ``ValueError`` where its text does not occur exactly once."""
    path = root / error.file
    text = path.read_text() if path.is_file() else ""
    if text.count(error.right) != 1:
        raise ValueError(f"{error.file} holds {error.right!r} {text.count(error.right)} times, expected once")
    path.write_text(text.replace(error.right, error.wrong))


def copy_sources(target: Path) -> None:
    """The tracked files as they are here, and the tests' compilation cache."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    (ROOT / ".pytest_cache").mkdir(exist_ok=True)
    (target / ".pytest_cache").symlink_to(ROOT / ".pytest_cache")


def run_tests(root: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """pytest in a copy of the sources. Its status is 0 where all pass, and 1 where a test fails."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "--tb=line", "--durations=0", *tests]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def verdict(error: Planted) -> tuple[bool, str]:
    """Whether the named test fails with the error, and what it says."""
    with tempfile.TemporaryDirectory(prefix="jaxvision-planted-") as folder:
        copy_sources(Path(folder))
        try:
            plant(Path(folder), error)
        except ValueError as problem:
            return False, f"NOT PLANTED: {problem}"
        result = run_tests(Path(folder), error.test)
    if result.returncode == 0:
        return False, "SURVIVED"
    if result.returncode != 1:
        return False, f"NO TEST RAN: {(result.stdout + result.stderr)[-300:]}"
    said = re.findall(r"^(?:E  +|\S+:\d+: )(.+)", result.stdout, re.MULTILINE)
    return True, said[0] if said else "failed"


def main(words: list[str]) -> int:
    """Command line."""
    chosen = [e for e in ERRORS if not words or any(word in e.what for word in words)]
    with tempfile.TemporaryDirectory(prefix="jaxvision-planted-") as folder:
        copy_sources(Path(folder))
        sound = run_tests(Path(folder), *dict.fromkeys(e.test for e in chosen))
    if sound.returncode:
        print(f"error: without any planted error the tests already fail\n{sound.stdout[-3000:]}", file=sys.stderr)
        return 1
    survivors = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for error, (noticed, said) in zip(chosen, pool.map(verdict, chosen), strict=True):
            survivors += not noticed
            print(
                f"{'noticed ' if noticed else 'MISSED  '} {error.what}\n    {error.test}\n    {said[:200]}", flush=True
            )
    print(f"{len(chosen) - survivors} of {len(chosen)} planted errors are noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
