"""tools/show_augment.py: the picture shows what the network gets."""

import dataclasses

import cli
import jax
import numpy as np
import pytest
from PIL import Image

from jaxvision import main as main_lib
from jaxvision.train import augment_sheet, build, inputs
from tools import show_augment


@pytest.mark.program
def test_the_sheet_shows_what_the_network_gets(tmp_path, digits_dir, monkeypatch):
    """The same program on the same batch, and the targets of the mix."""
    monkeypatch.chdir(cli.ROOT)
    flags = [f"--config.data.dir={digits_dir}", "--config.batch_size=16", "--config.accumulate=2"]
    flags.append("--config.augment.mix_groups=global")  # the test process has eight devices
    config, _ = main_lib.parse(["--config", "configs/convnext_t.py:digits", *flags])
    source = inputs.open_train(config)
    images, targets, ids = augment_sheet.network_input(config, source, 3)
    assert images.shape == (16, 32, 32, 3) and 0 <= images.min() < images.max() <= 1
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)
    labels = [source.read(i)[1] for i in ids]
    smooth = config.loss.label_smoothing / 10
    for row, label in enumerate(labels):
        partner = labels[15 - row + (1 if row % 2 else -1)]  # the mirror place within every second example
        heavy = set(np.flatnonzero(targets[row] > smooth + 1e-6))
        assert heavy <= {label, partner}, (row, heavy, label, partner)

    config = dataclasses.replace(config, augment=dataclasses.replace(config.augment, mixup=0.0, cutmix=0.0))
    images, _, _ = augment_sheet.network_input(config, source, 3)
    mesh = build.start_devices(config)
    network = build.build_network(config, source)
    batch = next(inputs.train_loader(config, source, lambda: False).batches(3, 4))
    seen = np.asarray(build.augment_program(config, network, mesh)(batch["image"], np.int32(3)))
    expected = np.clip(seen * np.array(network.spec.std) + np.array(network.spec.mean), 0, 1)
    np.testing.assert_allclose(images, expected, atol=1e-6)
    assert jax.device_count() == 8

    out = tmp_path / "sheet.png"
    assert (
        show_augment.main(["--config", "configs/convnext_t.py:digits", "--out", str(out), "--images", "5", *flags]) == 0
    )
    assert np.asarray(Image.open(out)).std() > 20
    assert show_augment.main(["--config", "configs/convnext_t.py:digits", "--step", "9999", *flags]) == 2


def test_rows_are_labelled_and_targets_name_their_classes():
    image = np.zeros((4, 4, 3))
    figure = augment_sheet.draw([(image, image, f"label {i}") for i in range(11)], "a recipe")
    rows = np.array(figure.axes).reshape(4, 8)
    assert [row[0].get_ylabel().split("\n")[0] for row in rows] == ["original", "network's input"] * 2
    assert [panel.get_title() for panel in rows[1]] == [f"label {i}" for i in range(8)]
    assert all(panel.yaxis.label.get_visible() and panel.axison for panel in rows[:, 0])

    target = np.full(10, 0.01)
    target[[3, 8]] = 0.66, 0.26
    assert augment_sheet.label_text(target, "0123456789", 0.1) == "3: 0.66, 8: 0.26"
    assert augment_sheet.label_text(np.eye(10)[4], "0123456789", 0.0) == "4: 1.00"
