"""The packaged digits: a real tfds data set, equal to what its script writes, read without TensorFlow."""

import os
import subprocess
import sys

import pytest

from jaxvision.data import decode, digits, sources
from jaxvision.data.tfds import TFRecordSource
from jaxvision.data.verify import problems

FOLDER = digits.DATA_DIR / digits.NAME / digits.VERSION


def examples(source):
    """Pixels and label of every example, in order."""
    return [(decode.decode(raw)[..., 0].tobytes(), label) for raw, label in map(source.read, range(len(source)))]


def test_the_split_is_fixed_and_every_image_is_scikit_learns():
    for split, count in (("train", 1437), ("test", 360)):
        source = digits.source(split)
        assert isinstance(source, TFRecordSource)
        assert (len(source), source.num_classes, source.class_names) == (count, 10, list("0123456789"))
        images, labels = digits.arrays()[split]
        expected = sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
        assert sorted(examples(source)) == expected
    with pytest.raises(ValueError, match=r"no split 'validation'.* It has: t.*, t"):
        digits.source("validation")


@pytest.mark.slow
def test_the_script_writes_the_packaged_data_set_again(tmp_path):
    command = [sys.executable, "-m", "jaxvision.data.digits", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for split in ("train", "test"):  # the order too: training depends on it
        written = sources.tfds_source(digits.NAME, tmp_path, split)
        assert examples(written) == examples(digits.source(split))
    for name in ("features.json", "label.labels.txt"):
        assert (FOLDER / name).read_text() == (tmp_path / digits.NAME / digits.VERSION / name).read_text()


def test_tfds_itself_opens_the_packaged_data_set():
    import tensorflow_datasets as tfds

    info = tfds.builder_from_directory(str(FOLDER)).info
    assert {name: split.num_examples for name, split in info.splits.items()} == {"train": 1437, "test": 360}
    assert info.features["label"].names == digits.CLASS_NAMES and info.features["image"].shape == (8, 8, 1)


@pytest.mark.slow
def test_reading_needs_no_tensorflow_no_scikit_learn_and_no_place_to_write(tmp_path):
    """Also from a read-only installation without a home: the index of records is then made in memory."""
    before = {path: path.stat().st_mtime_ns for path in digits.DATA_DIR.rglob("*")}
    (tmp_path / "file").touch()
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'tensorflow_datasets', 'sklearn', 'scipy.sparse', 'importlib_resources',\n"
        "             'array_record'):\n"
        "    sys.modules[name] = None\n"
        "from jaxvision.data import digits\n"
        "print(sum(digits.source('train').read(i)[1] for i in range(1437)))"
    )
    # A file in the place of the cache's parent folder: root, too, fails to write there.
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "file"), "JAX_PLATFORMS": "cpu"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == int(digits.arrays()["train"][1].sum())
    assert {path: path.stat().st_mtime_ns for path in digits.DATA_DIR.rglob("*")} == before


def test_the_script_names_the_extra_it_lacks(tmp_path):
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from jaxvision.data import digits; sys.exit(digits.main(sys.argv[1:]))"
    )
    for arguments, message in (
        ([tmp_path / "d"], "error: this needs tensorflow: pip install -e '.[prepare]'\n"),
        ([], "error: name the folder to write to: python -m jaxvision.data.digits DIR\n"),
    ):
        result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (2, message)
    assert not (tmp_path / "d").exists()
