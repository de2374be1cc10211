"""Sources and loader: the real tfds builders, every format, corruption, order whatever the threads."""

import io
import json
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from jaxvision.data import decode, loader, sources, tfrecord
from jaxvision.data.config import DataConfig
from jaxvision.data.plan import Plan
from jaxvision.data.tfds import ArrayRecordSource
from jaxvision.data.verify import problems


def jpeg(seed, size=(64, 48)):
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize(size).save(buffer, "JPEG")
    return buffer.getvalue()


def add(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


@pytest.fixture(scope="session")
def imagenet_tars(tmp_path_factory):
    """Small files of the official layout: a tar of per-class tars, and a flat validation tar."""
    folder = tmp_path_factory.mktemp("tars")
    with tarfile.open(folder / "train.tar", "w") as train:
        for c, wnid in enumerate(("n01440764", "n01443537", "n01484850")):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for i in range(5):
                    add(tar, f"{wnid}_{i}.JPEG", jpeg(10 * c + i))
            add(train, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(folder / "val.tar", "w") as val:
        for i in range(1, 8):
            add(val, f"ILSVRC2012_val_{i:08d}.JPEG", jpeg(100 + i))
    return folder


@pytest.fixture(scope="session")
def prepared(imagenet_tars, tmp_path_factory):
    """The real tfds imagenet2012 builder, through the tool a user calls."""
    out = tmp_path_factory.mktemp("tfds")
    result = subprocess.run(
        [sys.executable, "tools/prepare_imagenet.py", "--train", imagenet_tars / "train.tar", "--val",
         imagenet_tars / "val.tar", "--out", out, "--allow-partial", "--shards", "2"],
        capture_output=True, text=True)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "15 training and 7 validation images" in result.stdout
    return out


@pytest.mark.program
def test_prepared_imagenet_reads_without_tensorflow(prepared):
    code = (
        "import sys; from pathlib import Path; from jaxvision.data.sources import tfds_source\n"
        f"s = tfds_source('imagenet2012', Path({str(prepared)!r}), 'train')\n"
        "print(len(s), s.num_classes, s.class_names[0], sorted({s.read(i)[1] for i in range(len(s))}))\n"
        "assert not {'tensorflow', 'tensorflow_datasets'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["15", "1000", "n01440764", "[0,", "1,", "2]"]
    source = sources.tfds_source("imagenet2012", prepared, "train")
    expected = {np.asarray(Image.open(io.BytesIO(jpeg(10 * c + i)))).tobytes() for c in range(3) for i in range(5)}
    assert {decode.decode(source.read(i)[0]).tobytes() for i in range(15)} == expected
    validation = sources.tfds_source("imagenet2012", prepared, "validation")
    assert [validation.read(i)[1] for i in range(2)] != [0, 0]  # tfds's own labels
    assert len(sources.tfds_source("imagenet2012", prepared, "train[:40%]")) == 6
    assert len(sources.tfds_source("imagenet2012", prepared, "train[12:]")) == 3
    assert len(sources.tfds_source("imagenet2012:5.*.*", prepared, "validation")) == 7


@pytest.mark.slow
def test_array_record(tmp_path):
    import tensorflow_datasets as tfds

    class Small(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=4),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(9):
                yield i, {"image": np.full((8, 8, 3), i, np.uint8), "label": i % 4}

    tfds.disable_progress_bar()
    Small(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    source = sources.tfds_source("small", tmp_path, "train")
    assert isinstance(source, ArrayRecordSource) and len(source) == 9
    values = {int(decode.decode(raw)[0, 0, 0]): label for raw, label in map(source.read, range(9))}
    assert values == {i: i % 4 for i in range(9)}


def copy(prepared, tmp_path):
    shutil.copytree(prepared / "imagenet2012", tmp_path / "imagenet2012")
    return tmp_path, sorted((tmp_path / "imagenet2012").rglob("*train.tfrecord*"))


@pytest.mark.slow
def test_more_shards_than_a_shell_lets_open(prepared, tmp_path):
    """ImageNet has 1024 + 64 shards and the usual soft limit is 1024."""
    folder = next((prepared / "imagenet2012").iterdir())
    old = sorted(folder.glob("*train.tfrecord*"))[0]
    offsets = tfrecord.record_offsets(old)
    record = old.read_bytes()[: offsets[1] - 12]
    new = tmp_path / "imagenet2012" / "5.1.0"
    new.mkdir(parents=True)
    for name in ("features.json", "label.labels.txt"):
        shutil.copy(folder / name, new / name)
    info = json.loads((folder / "dataset_info.json").read_text())
    for split in info["splits"]:
        split["shardLengths"] = ["1"] * 150
    (new / "dataset_info.json").write_text(json.dumps(info))
    for i in range(150):
        (new / f"imagenet2012-train.tfrecord-{i:05d}-of-00150").write_bytes(record)
    code = (
        "import resource; from pathlib import Path; from jaxvision.data import sources\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, {hard}))\n"
        f"s = sources.tfds_source('imagenet2012', Path({str(tmp_path)!r}), 'train'); print(len(s), s.read(149)[1])"
    )
    result = subprocess.run([sys.executable, "-c", code.format(hard=4096)], capture_output=True, text=True)
    assert result.stdout.split()[0] == "150", result.stderr
    result = subprocess.run([sys.executable, "-c", code.format(hard=120)], capture_output=True, text=True)
    assert "150 data files must be open at once, the limit is 120: raise it (ulimit -n)" in result.stderr


def test_missing_and_truncated_shards_are_found_at_start(prepared, tmp_path):
    root, shards = copy(prepared, tmp_path)
    data = shards[0].read_bytes()
    shards[0].write_bytes(data[:-100])
    with pytest.raises(
        tfrecord.DataError, match=rf"{shards[0].name}: truncated or corrupt TFRecord: record \d+ at byte"
    ):
        sources.tfds_source("imagenet2012", root, "train")
    offsets = tfrecord.record_offsets(sorted((prepared / "imagenet2012").rglob("*train.tfrecord*"))[0])
    shards[0].write_bytes(data[: offsets[-2] - 12])  # cut at a record border
    with pytest.raises(tfrecord.DataError, match=r"records, dataset_info.json says"):
        sources.tfds_source("imagenet2012", root, "train")
    shards[0].unlink()
    with pytest.raises(tfrecord.DataError, match=rf"1 of 2 files of train are missing, first .*{shards[0].name}"):
        sources.tfds_source("imagenet2012", root, "train")


def test_missing_data_set_and_split_say_what_to_do(prepared, tmp_path):
    with pytest.raises(ValueError, match=r"image-net.org(.|\n)*jaxvision prepare-imagenet(.|\n)*:digits"):
        sources.tfds_source("imagenet2012", tmp_path, "train")
    with pytest.raises(ValueError, match='Did you mean "imagenet2012"'):
        sources.tfds_source("imagnet2012", tmp_path, "train")
    with pytest.raises(ValueError, match="download_and_prepare"):
        sources.tfds_source("cifar10", tmp_path, "train")
    with pytest.raises(ValueError, match=r"no split 'vaidation'.*Did you mean \"validation\""):
        sources.tfds_source("imagenet2012", prepared, "vaidation")


def test_verify_names_the_damaged_record(prepared, tmp_path):
    root, shards = copy(prepared, tmp_path)
    data = bytearray(shards[1].read_bytes())
    offsets = tfrecord.record_offsets(shards[1])
    data[offsets[1] + 30] ^= 4
    shards[1].write_bytes(data)
    command = [sys.executable, "tools/verify_data.py", "--name", "imagenet2012", "--dir", root, "--split", "train"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"{shards[1].name}, record 1, byte {offsets[1]}: checksum of the record data differs" in result.stdout
    assert "1 of 15 examples are damaged" in result.stdout
    command[5] = prepared
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and "15 examples, all good" in result.stdout


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 6), ("val", 3)):
        for c, name in enumerate(("ant", "bee")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / name / f"{i}.jpg").write_bytes(jpeg(100 * c + i))
    return tmp_path


def load(source, **options):
    plan = Plan(len(source), 4, seed=0, train=options.pop("train", True))
    transform = decode.train_transform(size=16, crop="torch", area=(0.2, 1.0), ratio=(3 / 4, 4 / 3), resize="area",
                                       crop_pct=1.0, interpolation="bicubic")  # fmt: skip
    if not plan.train:
        transform = decode.eval_transform(size=16, crop_pct=1.0, interpolation="bicubic")
    return loader.Loader(source, plan, transform, size=16, **options)


def test_folder_and_order_independent_of_threads(folder):
    source = sources.FolderSource(folder, "train")
    assert source.class_names == ["ant", "bee"] and len(source) == 12 and source.read(7)[1] == 1
    reference = list(load(source, threads=1).batches(0, 9))
    for threads in (2, 7):
        for a, b in zip(load(source, threads=threads, ahead=5).batches(0, 9), reference, strict=True):
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])
    # Resuming in the middle gives the same batches.
    for a, b in zip(load(source).batches(5, 9), reference[5:], strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
    assert len({batch["image"].ctypes.data for batch in reference}) == 9  # a fresh buffer each


def test_evaluation_pads_and_masks(folder):
    source = sources.FolderSource(folder, "val")
    batches = list(load(source, train=False).batches(0, 2))
    assert [b["mask"].tolist() for b in batches] == [[True] * 4, [True, True, False, False]]
    assert not batches[1]["image"][2:].any()


def test_the_loader_decodes_as_it_is_told(folder):
    source, images = sources.FolderSource(folder, "train"), {}
    for dct_method in decode.DCT_METHODS:
        images[dct_method] = next(load(source, train=False, dct_method=dct_method).batches(0, 1))["image"]
        for i, found in enumerate(images[dct_method]):
            expected = decode.decode(source.read(i)[0], dct_method=dct_method)
            np.testing.assert_array_equal(found, decode.eval_image(expected, 16, 1.0, "bicubic"))
    assert (images["accurate"] != images["fast"]).any()


def test_corrupt_images_fail_with_a_name_or_are_replaced(folder):
    bad = folder / "train" / "ant" / "2.jpg"
    bad.write_bytes(jpeg(2)[:200])
    source = sources.FolderSource(folder, "train")
    with pytest.raises(tfrecord.DataError, match=rf"example 2 \({bad}\).*verify-data.*training.*on_corrupt=skip"):
        list(load(source).batches(0, 3))
    runs = []
    for threads in (1, 4):
        skipping = load(source, on_corrupt="skip", threads=threads)
        runs.append([b["label"].tolist() + b["image"].ravel().tolist() for b in skipping.batches(0, 6)])
        assert list(skipping.skipped) == [2] and str(bad) in skipping.skipped[2]
    assert runs[0] == runs[1]
    clean = [plan_id for step in range(6) for plan_id in Plan(12, 4, seed=0, train=True).ids(step)]
    labels = [label for run in runs[:1] for batch in run for label in batch[:4]]
    assert labels == [int(i >= 6) for i in clean]  # 2 became 3: the other examples did not move


def test_loader_stops_while_waiting(folder):
    source = sources.FolderSource(folder, "train")
    batches = load(source, stopped=lambda: True).batches(0, 3)
    with pytest.raises(loader.Interrupted):
        next(batches)


def test_folds_have_their_share_of_each_class(tmp_path):
    for name, count in (("ant", 20), ("bee", 5), ("cat", 7)):
        (tmp_path / name).mkdir()
        for i in range(count):
            (tmp_path / name / f"{i}.jpg").touch()
    source = sources.FolderSource(tmp_path, ".")
    array = sources.ArraySource(np.zeros((32, 2, 2), np.uint8), source.labels)
    for whole in (source, array):
        parts = [sources.only_fold(whole, k, 5) for k in range(1, 6)]
        assert sorted(np.concatenate([part.ids for part in parts])) == list(range(32))
        for k, part in enumerate(parts, 1):
            counts = np.bincount(source.labels[part.ids], minlength=3)
            assert counts[0] == 4 and counts[1] == 1 and counts[2] in (1, 2)
            rest = sources.without_fold(whole, k, 5)
            assert sorted([*part.ids, *rest.ids]) == list(range(32))
        np.testing.assert_array_equal(parts[0].ids, sources.only_fold(source, 1, 5).ids)  # in every run
    first = sources.only_fold(source, 1, 5).ids
    assert list(first[:4]) != [0, 5, 10, 15] and list(first[:4]) != [0, 1, 2, 3]  # at random


def test_validation_is_the_folder_of_this_name_or_val(folder):
    def opened(split):
        config = DataConfig(name="folder", dir=str(folder))
        return sources.open_source(config, split, image_size=8, seed=0)

    assert str(folder / "val" / "ant") in opened("validation").where(0)
    (folder / "val").rename(folder / "validation")
    assert str(folder / "validation" / "ant") in opened("validation").where(0)


def test_folder_errors(folder, tmp_path):
    with pytest.raises(ValueError, match=r"Expected .*train/<class>/\*.jpg.*holds: train, val"):
        sources.FolderSource(folder, "test")
    with pytest.raises(ValueError, match="is missing"):
        sources.FolderSource(tmp_path / "nowhere", "train")
    (tmp_path / "empty" / "train" / "x").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no images"):
        sources.FolderSource(tmp_path / "empty", "train")


def test_what_is_no_class_and_what_is_not_read(folder):
    train = folder / "train"
    for path in (".ipynb_checkpoints/0.jpg", "__MACOSX/ant/0.jpg", "__MACOSX/0.jpg", "ant/._0.jpg", "ant/.DS_Store"):
        (train / path).parent.mkdir(exist_ok=True, parents=True)
        (train / path).write_bytes(b"no image")
    source = sources.FolderSource(folder, "train")  # without a warning
    assert source.class_names == ["ant", "bee"] and source.num_classes == 2 and len(source) == 12
    for name in ("a.gif", "b.TIF", "c.Jpg"):
        shutil.copy(train / "bee" / "0.jpg", train / "bee" / name)
    for name in ("d.heic", "e.HEIC", "f.txt", "g", ".hidden"):
        (train / "ant" / name).touch()
    (train / "bee" / "folder").mkdir()
    with pytest.warns(UserWarning) as told:
        source = sources.FolderSource(folder, "train")
    assert len(source) == 15 and [source.read(i)[1] for i in range(15)] == [0] * 6 + [1] * 9
    assert [str(warning.message) for warning in told] == [
        f"files of {train} that are not read: 2 .heic, 1 .txt, 1 without a suffix; "
        "an image is named .jpg, .jpeg, .png, .webp, .bmp, .gif, .tif, .tiff, .ppm, .avif"
    ]


class Labelled:
    """Images whose labels are not checked when they are opened, like those of records."""

    num_classes, class_names = 3, ["a", "b", "c"]

    def __init__(self, *labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def read(self, index):
        return np.zeros((4, 4, 3), np.uint8), self.labels[index]

    def where(self, index):
        return f"record {index}"


@pytest.mark.parametrize("label", [3, 255, 2**31, 2**64 - 1, -1, -3])
@pytest.mark.parametrize("relabelled", [False, True])
def test_a_label_that_is_no_class_is_a_corrupt_example(label, relabelled):
    source = Labelled(0, 1, label, 2)
    if relabelled:
        source = sources.Relabelled(source, ["c", "b", "a", "d", "e"], where="the file")
    expected = rf"example 2 \(record 2\): its label is {label}, the data has 3 classes: 0 to 2"
    with pytest.raises(tfrecord.DataError, match=expected):
        list(load(source, train=False).batches(0, 1))
    skipping = load(source, train=False, on_corrupt="skip")
    (batch,) = skipping.batches(0, 1)
    assert batch["label"].tolist() == ([2, 1, 0, 0] if relabelled else [0, 1, 2, 2])
    assert list(skipping.skipped) == [2]


def test_npz(tmp_path):
    images, labels = np.random.default_rng(0).integers(0, 255, (5, 8, 8), np.uint8), np.arange(5)
    np.savez(tmp_path / "d.npz", train_images=images, train_labels=labels, x_test=images[:2], y_test=labels[:2, None])
    source = sources.npz_source(tmp_path / "d.npz", "train")
    np.testing.assert_array_equal(source.read(3)[0], np.repeat(images[3][..., None], 3, -1))
    assert len(sources.npz_source(tmp_path / "d.npz", "test")) == 2
    with pytest.raises(ValueError, match="needs val2_images"):
        sources.npz_source(tmp_path / "d.npz", "val2")
    np.savez(tmp_path / "f.npz", train_images=images.astype(float), train_labels=labels[:3])
    with pytest.raises(ValueError, match=r"must be uint8(.|\n)*labels must be"):
        sources.npz_source(tmp_path / "f.npz", "train")
    np.savez(tmp_path / "g.npz", train_images=images, train_labels=np.array([0, 1, 2, 9, 9]))
    with pytest.warns(
        UserWarning, match="6 of the 10 classes, counted up to the largest label of train_labels, have no"
    ):
        assert sources.npz_source(tmp_path / "g.npz", "train").num_classes == 10
    (tmp_path / "t.npz").write_text("no zip")
    with pytest.raises(ValueError, match="not a readable"):
        sources.npz_source(tmp_path / "t.npz", "train")
    with pytest.raises(ValueError, match="no file"):
        sources.npz_source(tmp_path / "x.npz", "train")


def test_synthetic_is_deterministic():
    a, b = (sources.SyntheticSource(10, 3, 16, seed=1) for _ in range(2))
    np.testing.assert_array_equal(a.read(4)[0], b.read(4)[0])
    assert {a.read(i)[1] for i in range(10)} == {0, 1, 2}
