"""Every tool says at once what it is for and how it is called, with an example; its --help imports nothing heavy."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import terminal

from tools import validate, verify_data
from tools.shared import command_line

TOOLS = sorted(
    path
    for path in Path("tools").rglob("*.py")
    if 'if __name__ == "__main__":' in path.read_text() and path.name != "worker.py"  # which bench/main.py calls
)
# Their --help still imports jax, or torch.
SLOW = ("augment.py", "check.py", "trials.py")
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


@pytest.mark.parametrize("width", [60, 80])
def test_help_fits_a_terminal_and_its_commands_can_be_copied(width):
    for path in TOOLS:
        doc = ast.get_docstring(ast.parse(path.read_text()))
        text = command_line.filled(doc, width)
        assert max(map(len, text.splitlines())) <= width, path
        words = (sorted(re.sub(r"\s[#\\]\s", " ", t).split()) for t in (text, doc))
        assert len(set(map(tuple, words))) == 1, path  # none is lost
        joined, wanted = (re.sub(r" \\\n +", " ", t) for t in (text, doc))
        for line in filter(re.compile("  (python|make) ").match, wanted.splitlines()):
            assert line.partition("  # ")[0].rstrip() in joined, path


def test_a_terminal_gets_lines_of_its_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    with terminal.attached(monkeypatch, 60) as shots:
        parser = command_line.parser("A sentence that is longer than sixty columns are, so that it has to be broken.")
        parser.print_help()
    assert "sixty columns are, so that it\nhas to" in shots[-1]


@pytest.mark.parametrize("tool", ["predict.py", "bench/main.py"])
def test_a_reader_that_leaves_ends_a_tool_quietly(tool):
    command = f"{sys.executable} tools/{tool} --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout in ("0\n", "141\n") and done.stderr == ""  # 0: argparse itself ignores that it cannot print


def test_only_tools_that_take_runs_speak_of_them(capsys):
    for tool, run in ((verify_data, False), (validate, True)):
        with pytest.raises(SystemExit):
            tool.main(["--help"])
        assert ("the run" in capsys.readouterr().out) == run


def test_the_benchmark_takes_timms_names_of_options(tmp_path):
    from tools.bench import main as bench

    args = bench.parse_args(["-b", "2", "--img-size", "64"])
    assert (args.batch_size, args.image_size) == (2, 64)


@pytest.mark.parametrize("raised,status", [(KeyboardInterrupt, 130), (BrokenPipeError, 141), (SystemExit(2), 2)])
def test_a_tool_that_is_ended_has_its_status(raised, status, monkeypatch, capfd):
    def main():
        raise raised

    with pytest.raises(SystemExit) as ended:
        command_line.start(main)
    assert ended.value.code == status and "Traceback" not in capfd.readouterr().err


def test_every_tool_starts_in_the_same_way():
    others = {"worker.py", "make_page.py", "write.py"}
    assert [p.name for p in TOOLS if "command_line.start(main)" not in p.read_text() and p.name not in others] == []
