"""How a user's folder is read: divided or not, and what is said of one that cannot be used."""

import numpy as np
import pytest
from PIL import Image

from jaxvision.data.folders import FOLD, Layout, find_layout
from jaxvision.data.sources import FolderSource
from jaxvision.data.verify import problems
from jaxvision.errors import UserError


def fill(root, *names, count=1):
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(root / name / f"{i}.png")


@pytest.mark.parametrize(
    "names,expected",
    [
        (["cat", "dog"], Layout(".", ".", FOLD)),
        (["train/cat", "train/dog"], Layout("train", "train", FOLD)),
        (["train/cat", "train/dog", "val/cat", "test/cat"], Layout("train", "val")),
        (["training/cat", "training/dog", "validation/cat"], Layout("training", "validation")),
        (["train/cat", "train/dog", "test/cat"], Layout("train", "test")),
        (["train", "test", "cat"], Layout(".", ".", FOLD)),  # classes of these names
    ],
)
def test_layouts(names, expected, tmp_path):
    fill(tmp_path, *names)
    fill(tmp_path, "__MACOSX", ".cache")
    assert find_layout(tmp_path) == expected


@pytest.mark.parametrize(
    "names,message",
    [
        ([], "no images (.jpg"),
        (["."], "are in no class folders: expected"),
        (["photos/cat", "photos/dog"], "did you mean {root}/photos?"),
        (["val/cat", "test/cat"], "but in test, val, and nothing to train on"),
        (["val/cat"], "but in val, and nothing to train on"),
        ([".cache/cat"], "no images (.jpg"),
        (["cat"], "{root} has images of one class only, 'cat'"),
        (["train/cat", "val/cat", "val/dog"], "{root}/train has images of one class only, 'cat'"),
    ],
)
def test_folders_that_cannot_be_used(names, message, tmp_path):
    fill(tmp_path, *names)
    with pytest.raises(UserError) as told:
        find_layout(tmp_path)
    assert message.format(root=tmp_path) in str(told.value)
    with pytest.raises(UserError, match=r"no folder .*absent: expected .*absent/CLASS/"):
        find_layout(tmp_path / "absent")


def test_damaged_images_are_named(tmp_path):
    fill(tmp_path, "cat", count=3)
    (tmp_path / "cat" / "1.png").write_bytes(b"no image")
    source = FolderSource(tmp_path, ".")
    found = list(problems(source, range(3)))
    assert found[0] is found[2] is None and found[1].startswith(f"{tmp_path / 'cat' / '1.png'}: ")
    assert list(problems(source, [2, 0], threads=1)) == [None, None]
