"""The order of classes: labels as a pretrained classifier counts them."""

import numpy as np
import pytest

from jaxvision.data import classes, sources
from jaxvision.data.config import DataConfig
from jaxvision.errors import UserError


@pytest.fixture
def photos(tmp_path):
    """Folders of two ImageNet classes, in an order that is not ImageNet's, and of one class alone."""
    for split, names in {"train": ("n02085620", "n01440764"), "val": ("n02085620",)}.items():
        for name in names:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            (folder / "0.jpg").write_bytes(name.encode())
    return tmp_path


def opened(folder, split, class_map=""):
    config = DataConfig(name="folder", dir=str(folder), class_map=str(class_map))
    return sources.open_source(config, split, image_size=32, seed=0)


def labels(source):
    return {bytes(raw).decode(): label for raw, label in (source.read(i) for i in range(len(source)))}


def test_labels_are_those_of_imagenet(photos):
    source = opened(photos, "train", "imagenet")
    ids = [wnid for wnid, _ in classes.imagenet_classes()]
    assert labels(source) == {"n02085620": ids.index("n02085620"), "n01440764": 0}
    assert source.num_classes == 1000 and source.class_names == ids
    assert source.where(0).endswith("n01440764/0.jpg") and len(source) == 2
    assert labels(opened(photos, "val", "imagenet")) == {"n02085620": 151}


def test_labels_follow_the_lines_of_a_file(photos, tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("n02085620\nanother\nn01440764\n\n")
    assert labels(opened(photos, "train", file)) == {"n02085620": 0, "n01440764": 2}
    assert opened(photos, "val", file).num_classes == 3
    assert labels(opened(photos, "train")) == {"n01440764": 0, "n02085620": 1}  # without: in sorted order


def test_all_unknown_classes_are_named(photos, tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("n0144076\nzebra\n")
    with pytest.raises(UserError) as error:
        opened(photos, "train", file)
    assert str(error.value) == (
        f"2 of 2 classes of the data are not in config.data.class_map = '{file}': n01440764, n02085620. "
        'Without images: n0144076, zebra. n01440764: Did you mean "n0144076"?'
    )
    (photos / "train" / "tench").mkdir()
    (photos / "train" / "tench" / "0.jpg").touch()
    with pytest.raises(UserError, match=r"1 of 3 classes of the data are not in .*'imagenet': tench$"):
        opened(photos, "train", "imagenet")


@pytest.mark.parametrize(
    ("text", "problem"),
    [("a\n\nb\n\nc\n", "empty lines: 2, 4"), ("b\na\nb\na\nc", "names that occur twice: a, b"), ("\n \n", "no names")],
)
def test_files_that_are_no_list_of_classes(text, problem, tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text(text)
    with pytest.raises(UserError, match=f"expected one class name per line, found {problem}$"):
        classes.read_class_map(str(file))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(UserError, match=r"class_map = 'imagnet': no such file. Expected \"imagenet\" or a file"):
        classes.read_class_map("imagnet")
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as text"):
        classes.read_class_map(str(tmp_path / "x"))


def test_splits_with_other_classes_are_refused(photos):
    """Sorted by themselves they would give one class two labels."""
    with pytest.raises(UserError) as error:
        sources.check_same_classes(opened(photos, "train"), opened(photos, "val"))
    assert "only in the training data: n01440764. Name them all" in str(error.value)
    sources.check_same_classes(opened(photos, "train", "imagenet"), opened(photos, "val", "imagenet"))
    (photos / "val" / "n03000000").mkdir()
    (photos / "val" / "n03000000" / "0.jpg").touch()
    with pytest.raises(UserError, match="only in the training data: n01440764; only in the evaluation data: n03000000"):
        sources.check_same_classes(opened(photos, "train"), opened(photos, "val"))


def test_folders_without_the_last_class_differ_too(photos):
    (photos / "train" / "n01440764" / "0.jpg").unlink()
    (photos / "train" / "n09999999").mkdir()
    (photos / "train" / "n09999999" / "0.jpg").touch()
    with pytest.warns(UserWarning, match=r"folders of .*/train without images are no classes: n01440764$"):
        train = opened(photos, "train")
    assert train.class_names == ["n02085620", "n09999999"]
    with pytest.raises(UserError, match=r"only in the training data: n09999999\. Name them all"):
        sources.check_same_classes(train, opened(photos, "val"))


def test_arrays_without_the_last_classes_agree():
    def numbered(count):
        return sources.ArraySource(np.zeros((count, 4, 4), np.uint8), np.arange(count))

    sources.check_same_classes(numbered(5), numbered(3))
    with pytest.raises(UserError, match="only in the evaluation data: 3, 4"):
        sources.check_same_classes(numbered(3), numbered(5))
    with pytest.raises(UserError, match=r"only in the evaluation data: 10, (1\d\d?, ){18}117 and 226 more\. Name"):
        sources.check_same_classes(numbered(10), numbered(256))
