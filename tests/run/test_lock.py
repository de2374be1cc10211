"""One run per workdir: a lock that a dead process cannot keep."""

import subprocess
import sys

import pytest

from jaxvision.errors import UserError
from jaxvision.run import lock
from jaxvision.run.lock import locked

HOLD = (
    "import sys, time; from pathlib import Path; from jaxvision.run.lock import locked\n"
    "with locked(Path(sys.argv[1]), print):\n"
    "    print('held', flush=True); time.sleep(600)"
)


def never(text):
    raise AssertionError(text)


def test_another_process_is_refused_until_the_first_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=rf"is in use: process {process.pid} on \S+, started 20.*, trains in it\."),
            locked(tmp_path, never),
        ):
            pass
        process.kill()
        process.wait()
        with locked(tmp_path, never):  # the file is still there, its process is not
            assert str(process.pid) not in (tmp_path / lock.NAME).read_text()


def test_it_can_be_taken_again_after_the_block_however_that_ends(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path, never):
        raise KeyError
    with locked(tmp_path, never):
        pass


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"host": "a"}'])
def test_a_damaged_lock_file_names_nobody(tmp_path, content):
    with locked(tmp_path, never):
        (tmp_path / lock.NAME).write_text(content)
        with pytest.raises(UserError, match="is in use: another process trains in it"), locked(tmp_path, never):
            pass


def test_where_the_disk_has_no_locks_a_warning_says_so(tmp_path, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    said = []
    with locked(tmp_path, said.append):
        assert said == ["the workdir cannot be locked (Function not implemented): take care that no second run uses it"]
