"""Files of a data set that are missing, damaged or others': one clear error each, and nothing else."""

import gc
import json
import os
import shutil
import warnings
import zipfile

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.data import digits, sources
from jaxvision.data.tfrecord import DataError
from jaxvision.errors import UserError
from tools.chaos.attack import damage


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train[:0]", "split 'train[:0]' selects none of the 1437 examples of train in "),
        ("train[3:1]", "split 'train[3:1]' selects none of the 1437 examples of train in "),
        ("train[200%:300%]", "split 'train[200%:300%]' selects none of the 1437 examples of train in "),
        ("train[:1438]", "split 'train[:1438]' is more than all of the 1437 examples of train in "),
        *(
            (f"train[{part}", f"'train[{part}' is no slice of train: write \"train[A:B]\" with numbers or percentages")
            for part in ("abc]", "]", "5]", "-5:]", "::2]", ":50%", ":50%]+test", ":" + "9" * 5000 + "]", ":٣]")
        ),
        ("trian[:9]", "has no split 'trian'. Did you mean \"train\"? It has: train, test"),
        ("train+test", "has no split 'train+test'. Did you mean \"train\"? It has: train, test"),
        ("", "has no split ''. It has: train, test"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_split_is_said(split, message):
    with pytest.raises(UserError) as error:
        digits.source(split)
    assert message in str(error.value)


def test_a_slice_is_what_tfds_reads():
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(digits.DATA_DIR / digits.NAME / digits.VERSION))
    for split in ("train", "train[:1%]", "train[37%:]", "train[5:1437]", "train[99%:100%]", "test[0:1]"):
        assert len(digits.source(split)) == builder.info.splits[split].num_examples, split


# ---------------------------------------------------------------------- what tfds wrote


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A tfds data_dir with the digits."""
    folder = tmp_path_factory.mktemp("tfds")
    shutil.copytree(digits.DATA_DIR, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture
def changed(prepared):
    """Writes one of the three descriptions, None: deletes it, and opens the data set; they are as before afterwards."""
    folder = prepared / digits.NAME / digits.VERSION
    before = {file: file.read_bytes() for file in folder.iterdir()}

    def change(name, content):
        for file, data in before.items():
            if file.suffix in (".json", ".txt"):
                file.write_bytes(data)
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
        return sources.tfds_source(digits.NAME, prepared, "test")

    change.before = {file.name: data for file, data in before.items()}
    change.folder = folder
    yield change
    change("features.json", change.before["features.json"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset_info.json", None, "cannot be read: No such file or directory"),
        ("features.json", None, "cannot be read: No such file or directory"),
        *((name, b"", "is damaged: Expecting value") for name in ("dataset_info.json", "features.json")),
        *((name, b"[]", "is damaged: list indices") for name in ("dataset_info.json", "features.json")),
        *((name, b"{}", "is damaged: it has no '") for name in ("dataset_info.json", "features.json")),
        *((name, b"\xff\xfe", "is damaged: 'utf-8' codec") for name in ("dataset_info.json", "label.labels.txt")),
        ("features.json", b"[" * 100_000, "is damaged: maximum recursion"),
        ("label.labels.txt", b"a\nb\n", "is damaged: 2 names for 10 classes"),
        ("label.labels.txt", b"\n" * 11, "is damaged: 11 names for 10 classes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_missing_or_damaged_description_is_named(changed, name, content, message):
    with pytest.raises(DataError) as error:
        changed(name, content)
    text = str(error.value)
    assert text.startswith(f"{changed.folder / name} {message}")
    assert text.endswith(". Copy it again, or prepare the data set again.") and "\n" not in text


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("features.json", '"10"', '"1099511627776"', "1099511627776 classes; at most 1048576 are possible"),
        ("features.json", '"10"', '"0"', "0 classes; at most 1048576 are possible"),
        ("features.json", ".Image", ".Text", "is no classification data set: image features []"),
        ("dataset_info.json", '"360"', '"361"', "360 records, dataset_info.json says 361"),
        ("dataset_info.json", '"360"', '"-360"', "a file of -360 to -360 records"),
        ("dataset_info.json", '"360"', f'"{2**70}"', f"a file of {2**70} to {2**70} records"),
        ("dataset_info.json", "{SHARD_X_OF_Y}", "{NOTHING}", "is damaged: it has no 'NOTHING'"),
        ("dataset_info.json", "{DATASET}", "a" * 300, "cannot be read: File name too long"),
        ("dataset_info.json", '"tfrecord"', '"riegeli"', "the format 'riegeli'; tfrecord and array_record can be read"),
    ],
)
def test_a_description_of_another_data_set_is_named(changed, name, old, new, message):
    with pytest.raises(UserError) as error:
        changed(name, changed.before[name].decode().replace(old, new).encode())
    assert message in str(error.value)


@settings(max_examples=300)
@given(st.sampled_from(("dataset_info.json", "features.json", "label.labels.txt")), st.randoms(use_true_random=False))
def test_a_damaged_description_is_refused_or_describes_the_data(prepared, name, rng):
    folder = prepared / digits.NAME / digits.VERSION
    good = (digits.DATA_DIR / digits.NAME / digits.VERSION / name).read_bytes()
    try:
        (folder / name).write_bytes(damage(good, rng))
        source = sources.tfds_source(digits.NAME, prepared, "test")
        assert len(source) == 360 and len(source.class_names) == source.num_classes
        source.read(0)
    except UserError:
        pass
    finally:
        (folder / name).write_bytes(good)


def test_a_version_is_three_numbers_or_stars(prepared):
    for version in ("/x", "a**", "1.0", "1.0.0/x", "1.0.0.incomplete"):
        with pytest.raises(UserError, match=r"names no version of jaxvision_digits: write jaxvision_digits:1.0.0"):
            sources.tfds_source(f"{digits.NAME}:{version}", prepared, "test")
    shutil.copytree(prepared / digits.NAME / "1.0.0", prepared / digits.NAME / "2.0.0.incomplete7")
    for version in ("", ":1.0.0", ":*.*.*"):
        assert len(sources.tfds_source(digits.NAME + version, prepared, "test")) == 360


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_files_are_closed_with_their_source(tmp_path, file_format):
    shutil.copytree(digits.DATA_DIR, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / digits.NAME / digits.VERSION
    if file_format == "array_record":
        from array_record.python.array_record_module import ArrayRecordWriter

        source = digits.source("test")
        writer = ArrayRecordWriter(str(folder / "jaxvision_digits-test.array_record-00000-of-00001"), "group_size:1")
        for i in range(360):
            shard, _, offset, length = source._record(i)
            writer.write(os.pread(source._fds[shard], length, offset))
        writer.close()
        info = json.loads((folder / "dataset_info.json").read_text()) | {"fileFormat": file_format}
        (folder / "dataset_info.json").write_text(json.dumps(info))

    def is_open():
        return [file.path for file in psutil.Process().open_files() if file.path.startswith(str(folder))]

    source = sources.tfds_source(digits.NAME, tmp_path, "test")
    assert source.read(7)[1] in range(10) and len(is_open()) == 1
    fold = sources.only_fold(source, 1, 5)
    del source
    fold.read(0)
    del fold
    gc.collect()
    assert is_open() == []


# ---------------------------------------------------------------------- .npz


IMAGES, LABELS = np.random.default_rng(0).integers(0, 256, (20, 6, 6), np.uint8), np.arange(20) % 5


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    """Path and content of a good file."""
    path = tmp_path_factory.mktemp("npz") / "data.npz"
    np.savez(path, train_images=IMAGES, train_labels=LABELS)
    return path, path.read_bytes()


@pytest.mark.parametrize("keep", [0, 1, 100, 700, -1])
def test_a_cut_npz_is_no_readable_file(npz, keep):
    path, content = npz
    path.write_bytes(content[:keep])
    with pytest.raises(DataError, match=rf"^{path} is not a readable .npz file, as numpy.savez writes it: \w"):
        sources.npz_source(path, "train")


def test_an_npy_named_npz_is_said(npz):
    path, _ = npz
    with path.open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(DataError, match=r"as numpy.savez writes it: File is not a zip file"):
        sources.npz_source(path, "train")


@settings(max_examples=300)
@given(st.randoms(use_true_random=False), st.booleans())
def test_a_damaged_npz_is_refused_or_whole(npz, rng, compressed):
    path, _ = npz
    (np.savez_compressed if compressed else np.savez)(path, train_images=IMAGES, train_labels=LABELS)
    path.write_bytes(damage(path.read_bytes(), rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy's, on a header
        try:
            source = sources.npz_source(path, "train")
        except UserError:
            return
    np.testing.assert_array_equal(source.images[..., 0], IMAGES)
    np.testing.assert_array_equal(source.labels, LABELS)


def test_a_header_that_asks_for_fewer_bytes(npz):
    """The checksum of what is read in part is not compared: every second label would be a zero."""
    path, _ = npz
    np.savez(path, train_images=np.zeros((5000, 2, 2), np.uint8), train_labels=np.arange(5000) % 5)
    with zipfile.ZipFile(path) as archive:
        labels = archive.read("train_labels.npy")
    content = path.read_bytes()
    assert content.count(labels) == 1 == labels.count(b"<i8")
    path.write_bytes(content.replace(labels, labels.replace(b"<i8", b"<i4")))
    with pytest.raises(DataError, match="train_labels has more bytes than its header says"):
        sources.npz_source(path, "train")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS - 1, "labels must be from 0 to 1048575, got -1 to 3"),
        (LABELS + 2**40, "labels must be from 0 to 1048575, got 1099511627776 to 1099511627780"),
        (np.full(20, 2**64 - 1, np.uint64), "labels must be from 0 to 1048575, got 18446744073709551615 to"),
        (LABELS + 0.5, r"labels must be \(20,\) integers, got float64 \(20,\)"),
        (LABELS[:9], r"labels must be \(20,\) integers, got int64 \(9,\)"),
        (LABELS.astype(object), "Object arrays cannot be loaded"),
    ],
    ids=["negative", "2^40", "2^64", "float", "few", "objects"],
)
def test_labels_that_are_none(npz, labels, message):
    path, _ = npz
    np.savez(path, train_images=IMAGES, train_labels=labels)
    with pytest.raises(DataError, match=message):
        sources.npz_source(path, "train")


def test_an_npz_without_images(npz):
    path, _ = npz
    np.savez(path, train_images=IMAGES[:0], train_labels=LABELS[:0])
    with pytest.raises(DataError, match="train_images: no images"):
        sources.npz_source(path, "train")
