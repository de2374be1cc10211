"""Text that fits a terminal, and a run that outlives its standard streams."""

import errno
import os
import subprocess
import sys

import pytest
import terminal as screen

from jaxvision import terminal
from jaxvision.main import main

PATH = "/scratch/" + "x" * 80


class Broken:
    """A stream that fails with an error; it has no file."""

    def __init__(self, code: int) -> None:
        self.code = code

    def write(self, text: str) -> int:
        raise OSError(self.code, os.strerror(self.code))

    def flush(self) -> None:
        raise OSError(self.code, os.strerror(self.code))

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        raise OSError("no file")


def test_long_lines_are_broken_between_words_and_indented():
    text = f"error: the words of this line do not fit\n  in {PATH}: all"
    assert terminal.fitted(text, 24).splitlines() == [
        "error: the words of this", "  line do not fit", "  in", f"    {PATH}:", "    all",
    ]  # fmt: skip
    assert terminal.fitted(text, None) == text
    assert terminal.fitted("a\n\nb", 24) == "a\n\nb"


def test_a_command_can_be_copied():
    text = "run\n  python tools/prepare.py --train a.tar --val b.tar\nor leave it"
    assert terminal.fitted(text, 32).splitlines() == [
        "run", "  python tools/prepare.py \\", "    --train a.tar --val b.tar", "or leave it",
    ]  # fmt: skip
    assert terminal.fitted(text, 60) == text


def test_a_pipe_has_no_width(capsys):
    assert terminal.columns(sys.stdout) is None


@pytest.mark.parametrize("columns,expected", [(60, 60), (100, 100), (200, 120)])
def test_lines_are_as_long_as_the_terminal_but_no_longer_than_one_reads(monkeypatch, columns, expected):
    with screen.attached(monkeypatch, columns):
        assert terminal.columns(sys.stdout) == expected


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_help_fits_the_terminal(monkeypatch, columns):
    with screen.attached(monkeypatch, columns) as shots, pytest.raises(SystemExit):
        main(["--config", "configs/deit_s.py", "--help"])
    lines = [line for line in shots[-1].splitlines() if not line.startswith(("* decay_rules", "  rate_rules"))]
    assert max(map(len, lines)) <= columns and len(lines) > 100
    # No word was cut by the terminal's own breaks.
    assert {"recipe's", "resnet_rs50:digits;", "augmentation"} <= set(shots[-1].split())


def test_the_help_of_a_pipe_is_the_same_for_every_terminal(monkeypatch, capsys):
    texts = set()
    for columns in ("60", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        with pytest.raises(SystemExit):
            main(["--help"])
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ENOSPC])
def test_a_stream_that_lasts_tells_its_failure_once(code):
    told = []
    stream = terminal.Lasting(Broken(code), told.append)
    print("one", file=stream, flush=True)
    print("two", file=stream, flush=True)
    assert told == [os.strerror(code)]


def test_the_error_stream_says_that_the_output_failed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Broken(errno.EPIPE))
    with terminal.lasting_streams():
        print("lost")
        print("lost")
    assert capsys.readouterr().err.splitlines() == [
        "warning: the standard output failed (Broken pipe): the run goes on, and writes its records and checkpoints"
    ]


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ENOSPC])
def test_a_run_whose_output_and_errors_fail_is_trained_to_its_end(monkeypatch, tmp_path, code):
    monkeypatch.setattr(sys, "stdout", Broken(code))
    monkeypatch.setattr(sys, "stderr", Broken(code))
    fields = {"data.name": "synthetic", "data.synthetic_examples": 16, "model.name": "resnet10t", "steps": 2,
              "batch_size": 8, "eval.batch_size": 8, "data.eval_split": "validation"}  # fmt: skip
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    assert main(["--config", "configs/resnet_rs50.py:digits", "--workdir", str(tmp_path), *flags]) == 0
    assert (tmp_path / "checkpoints" / "step_2").is_dir() and (tmp_path / "curves.png").is_file()
    assert '"kind": "eval"' in (tmp_path / "metrics.jsonl").read_text()


def shell(command: str) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True)


@pytest.mark.program
def test_help_whose_reader_leaves_ends_as_unix_tools_do():
    done = shell(
        f"{sys.executable} -m jaxvision.main --config configs/deit_s.py --help | true; echo ${{PIPESTATUS[0]}}"
    )
    assert done.stdout.strip() == str(terminal.BROKEN_PIPE) and done.stderr == ""


@pytest.mark.program
def test_a_program_without_standard_streams_has_some():
    code = "from jaxvision import terminal as t; t.open_missing_streams(); print(1); t.print_error('x')"
    assert shell(f'{sys.executable} -c "{code}" >&- 2>&-').returncode == 0
