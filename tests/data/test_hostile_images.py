"""Files that claim to be images: refused before they cost memory, time or a process of their own."""

import io
import os
import struct
import zlib

import jax
import numpy as np
import pytest
import simplejpeg
from PIL import EpsImagePlugin, Image, ImageFile

import jaxvision
from jaxvision.data import decode, image_files, loader, sources, tfrecord
from jaxvision.data.plan import Plan
from jaxvision.errors import UserError


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def claiming_jpeg(width, height, mode="RGB", **options):
    """A JPEG of 16 x 16 pixels whose header says something else."""
    data = bytearray(encoded(Image.new(mode, (16, 16), "red"), "JPEG", **options))
    at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def claiming_gif(width, height):
    frame = struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00;"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff," + frame


def claiming_png(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"
HOSTILE = {
    "JPEG": (claiming_jpeg(30_000, 30_000), "30000 x 30000 pixels: at most 134 million are read, make it smaller"),
    "progressive": (claiming_jpeg(30_000, 30_000, progressive=True), "30000 x 30000 pixels: at most 134 million"),
    "CMYK": (claiming_jpeg(13_000, 13_000, "CMYK"), "13000 x 13000 pixels: at most 134 million"),
    "GIF": (claiming_gif(13_000, 13_000), "13000 x 13000 pixels: at most 134 million are read"),
    "PNG": (claiming_png(13_000, 13_000), "13000 x 13000 pixels: at most 134 million are read"),
    "larger PNG": (claiming_png(20_000, 20_000), "400000000 pixels: at most 134 million are read, make it smaller"),
    "tall": (encoded(Image.new("RGB", (1, 5000)), "PNG"), "1 x 5000 pixels: one side may be at most 200 times"),
    "wide": (encoded(Image.new("RGB", (5000, 1)), "JPEG"), "5000 x 1 pixels: one side may be at most 200 times"),
    "EPS": (EPS, "not an image of a format that is read"),
    "empty": (b"", "an empty file is no image"),
}


@pytest.fixture
def nothing_is_decoded(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a hostile image was decoded")

    for place, name in (
        (simplejpeg, "decode_jpeg"),
        (ImageFile.ImageFile, "load"),
        (decode.Scratch, "take"),
        (EpsImagePlugin, "Ghostscript"),
        (EpsImagePlugin.EpsImageFile, "__init__"),
    ):
        monkeypatch.setattr(place, name, fail)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_are_refused_before_they_are_decoded(name, nothing_is_decoded):
    data, message = HOSTILE[name]
    with pytest.raises(ValueError, match=message) as error:
        decode.decode(data, decode.Scratch())
    assert "not a complete image" not in str(error.value)


def test_the_limits_are_above_every_data_sets_images():
    decode.check_size(9331, 6530)  # ImageNet's largest
    decode.check_size(8420, 12092)  # Danbooru's
    decode.check_size(12_000, 9000)  # a telephone's
    decode.check_size(1, 200)
    for size in ((1, 201), (201, 1), (2**14, 2**13 + 1), (0, 5)):
        with pytest.raises(ValueError, match=f"^{size[0]} x {size[1]} pixels: "):
            decode.check_size(*size)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16", "CMYK"])
def test_images_that_are_converted_in_strips_have_the_same_pixels(mode, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 33, 3), np.uint8)
    image = Image.fromarray(pixels)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 9) if mode == "I;16" else image.convert(mode)
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    expected = decode.decode(data)
    monkeypatch.setattr(decode, "_STRIP", 100)
    np.testing.assert_array_equal(decode.decode(data), expected)


def test_the_buffer_of_a_large_image_is_not_kept(monkeypatch):
    scratch = decode.Scratch()
    monkeypatch.setattr(decode, "_KEPT", 100)
    assert scratch.take(100).size == 100 and scratch.take(101).size == 101 and scratch.buffer.size == 100


@pytest.fixture
def files(tmp_path):
    """One image, and what is no regular file, each under the name of an image."""
    (tmp_path / "good.png").write_bytes(encoded(Image.new("RGB", (8, 8)), "PNG"))
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "link.png").symlink_to("good.png")
    return tmp_path


REFUSED = {
    "pipe.jpg": "not a regular file but a pipe",
    "endless.jpg": "not a regular file but a device",
    "folder.jpg": "not a regular file but a folder",
    "sparse.jpg": "a file of 1099511627776 bytes: at most 268435456 are read",
}


def test_only_regular_files_of_a_sensible_size_are_read(files):
    content = (files / "good.png").read_bytes()
    assert image_files.read_image_file(files / "link.png") == content
    assert image_files.read_image_file(str(files / "good.png")) == content
    for name, message in REFUSED.items():
        with pytest.raises(ValueError, match=message):
            image_files.read_image_file(files / name)
    with pytest.raises(FileNotFoundError):
        image_files.read_image_file(files / "absent.png")


def test_preprocess_names_hostile_pictures(files):
    for name, (data, _) in HOSTILE.items():
        (files / f"{name}.jpg").write_bytes(data)
    expected = REFUSED | {f"{name}.jpg": message for name, (_, message) in HOSTILE.items()}
    preprocess = jaxvision.preprocess(jaxvision.create_model("resnet10t", key=jax.random.key(0)))
    pictures = [files / name for name in expected]
    pictures.append(np.zeros((1, 5000, 3), np.uint8))
    with Image.open(files / "tall.jpg") as tall, pytest.raises(UserError, match="16 of 16 pictures cannot") as error:
        preprocess([*pictures, tall])
    for name, message in expected.items():
        assert f"{files / name}: {message}" in str(error.value)
    assert str(error.value).count("one side may be at most 200 times") == 4


def broken_transform(image, uniforms, out):
    if image[0, 0, 0] == 7:
        raise MemoryError("cannot resize")
    out[:] = image


def test_what_the_transform_refuses_is_a_corrupt_example():
    images = np.zeros((6, 4, 4, 3), np.uint8)
    images[3] = 7
    source = sources.ArraySource(images, np.arange(6))
    plan = Plan(6, 6, seed=0, train=False)
    with pytest.raises(tfrecord.DataError, match=r"example 3 \(array, image 3\): cannot resize"):
        list(loader.Loader(source, plan, broken_transform, size=4).batches(0, 1))
    skipping = loader.Loader(source, plan, broken_transform, size=4, on_corrupt="skip")
    (batch,) = skipping.batches(0, 1)
    assert batch["label"].tolist() == [0, 1, 2, 4, 4, 5] and list(skipping.skipped) == [3]


def test_arrays_of_strips_are_refused():
    with pytest.raises(tfrecord.DataError, match="array: images of 5000 x 1 pixels: one side may be"):
        sources.ArraySource(np.zeros((2, 1, 5000), np.uint8), np.zeros(2, np.int64))


def test_a_folder_with_hostile_files_is_trained_on_without_them(files):
    for name, (data, _) in HOSTILE.items():
        (files / f"{name}.jpg").write_bytes(data)
    images = [*files.glob("*.jpg"), *files.glob("*.png")]
    (files / "train" / "ant").mkdir(parents=True)
    for file in images:
        file.rename(files / "train" / "ant" / file.name)
    source = sources.FolderSource(files, "train")
    transform = decode.eval_transform(size=8, crop_pct=1.0, interpolation="bicubic")
    plan = Plan(len(source), len(source), seed=0, train=False)
    skipping = loader.Loader(source, plan, transform, size=8, on_corrupt="skip")
    (batch,) = skipping.batches(0, 1)
    refused = {source.where(i).rpartition("/")[2] for i in skipping.skipped}
    assert refused == {file.name for file in images} - {"good.png", "link.png"}
    assert batch["image"].shape[0] == len(images) and not batch["image"].any()
