"""Files are replaced whole, or not at all."""

import pytest

from jaxvision.files import replace_file, replace_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_content_is_replaced_and_missing_folders_are_made(tmp_path):
    path = tmp_path / "new" / "folder" / "notes.txt"
    replace_text(path, "first\n")
    replace_text(path, "second, naïve\r\n")
    assert path.read_bytes() == "second, naïve\r\n".encode() and names(path.parent) == ["notes.txt"]


def test_the_old_content_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "table.csv"
    replace_text(path, "old")
    seen = []

    def write(temporary):
        temporary.write_text("half")
        seen.append((path.read_text(), temporary.parent, temporary.suffix))
        temporary.write_text("whole")

    replace_file(path, write)
    assert seen == [("old", tmp_path, ".csv")] and path.read_text() == "whole"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("boom"), KeyboardInterrupt()])
@pytest.mark.parametrize("written", [True, False])
def test_a_writer_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, error, written):
    path = tmp_path / "weights.safetensors"
    replace_text(path, "old")

    def write(temporary):
        if written:
            temporary.write_text("half of it")
        raise error

    with pytest.raises(type(error)):
        replace_file(path, write)
    assert path.read_text() == "old" and names(tmp_path) == [path.name]


def test_a_writer_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "a", lambda temporary: None)
    assert names(tmp_path) == []


def test_a_rename_that_fails_leaves_no_temporary_file(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        replace_text(tmp_path / "a", "text")
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == []
