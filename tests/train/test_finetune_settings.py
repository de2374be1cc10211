"""The settings that fine-tuning on a folder chooses, and the folders that it refuses."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision.config import base_config, resolve
from jaxvision.data import sources
from jaxvision.errors import UserError
from jaxvision.train import finetune
from jaxvision.train.finetune import Device, choose_batch, choose_epochs

CPU, H100 = Device(1, None, True), Device(1, 80 << 30, False)


def fill(root, **counts):
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(root / name / f"{i}.png")


def opened(folder, **data):
    config = resolve(base_config())
    fields = {name.removeprefix("data."): value for name, value in finetune.folder_fields(folder).items()}
    data = dataclasses.replace(config.data, name="folder", dir=str(folder), **fields | data)
    return finetune.open_images(dataclasses.replace(config, data=data))


@pytest.mark.parametrize(
    "model,size,images,device,expected",
    [
        ("resnet50", 224, 10_000, H100, 128),
        ("resnet50", 224, 10_000, CPU, 32),
        ("resnet50", 224, 10_000, Device(1, 2 << 30, True), 8),
        ("resnet50", 224, 10_000, Device(4, 80 << 30, False), 128),
        ("resnet50", 224, 10_000, Device(3, None, False), 96),  # a multiple of the devices
        ("resnet50", 224, 500, H100, 32),  # at least ten steps per epoch
        ("resnet50", 224, 20, H100, 8),
        ("resnet50", 224, 20, Device(16, 80 << 30, False), 16),
        ("resnet50", 224, 10_000, Device(1, 8 << 30, False), 32),
        ("deit3_large_patch16_384", 384, 10_000, Device(1, 24 << 30, False), 4),
        ("resnet50", 448, 10_000, Device(1, 8 << 30, False), 16),  # 4 times the pixels
        ("deit3_large_patch16_384", 384, 10_000, Device(1, 2 << 30, False), 1),
    ],
)
def test_the_batch_fits_the_device_and_the_data(model, size, images, device, expected):
    assert choose_batch(jaxvision.model_spec(model), size, images, device) == expected


@pytest.mark.parametrize(
    "batch,images,device,expected",
    [(128, 10_000, H100, 30), (32, 10_000, CPU, 10), (16, 192, CPU, 17), (8, 10, CPU, 100), (8, 20, H100, 80)],
)
def test_few_images_are_seen_more_often(batch, images, device, expected):
    assert choose_epochs(batch, images, device) == expected


def test_the_rate_follows_the_batch_and_the_folder_its_layout(tmp_path):
    fill(tmp_path, cat=10, dog=10)
    images = opened(tmp_path)
    assert len(images.train) == 16 and len(images.evaluation) == 4 and images.few is None
    spec = jaxvision.model_spec("resnet50")
    chosen = finetune.choose_fields(
        spec, images, CPU, image_size=64, batch=32, epochs=None, recipe_batch=128, recipe_rate=5e-4
    )
    assert chosen["optimizer.learning_rate"] == 2.5e-4  # the square root of a quarter
    assert chosen["batch_size"] == 32
    assert chosen["epochs"] == 100 and chosen["schedule.warmup_epochs"] == 10


def test_classes_that_cannot_be_learned_are_refused_and_others_told(tmp_path):
    fill(tmp_path / "few", cat=20, dog=1, emu=2)  # in the order of the classes a fifth takes places 0, 5, ..., 20
    with pytest.raises(UserError, match="too few images of dog to train on and evaluate: add some, or remove"):
        opened(tmp_path / "few")
    fill(tmp_path / "unseen", cat=18, dog=2, emu=10)
    assert opened(tmp_path / "unseen").few == "classes without images to evaluate on: dog"
    assert len(opened(tmp_path / "unseen", fold="1/2").evaluation) == 15
    fill(tmp_path / "other" / "train", cat=2, dog=2)
    fill(tmp_path / "other" / "val", cat=2, emu=2)
    with pytest.raises(UserError, match="only in the training data: dog; only in the evaluation data: emu"):
        opened(tmp_path / "other")


def test_images_that_cannot_be_read_end_it_before_training(tmp_path):
    fill(tmp_path, cat=20, dog=20)
    images = opened(tmp_path)
    finetune.check_images(images)
    for i in range(7):
        (tmp_path / "dog" / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(UserError) as told:
        finetune.check_images(images)
    text = str(told.value)
    assert text.startswith("7 of 40 images cannot be read:\n") and "and 2 more" in text and "on_corrupt=skip" in text
    assert isinstance(images.train, sources.Subset)
