"""The curves of a run: which panels there are, what shares their axes, and what the legends say."""

import numpy as np
import pytest
from PIL import Image

from jaxvision.config import base_config, resolve
from jaxvision.run.report import EVAL_LOSS, panels, plot_curves
from jaxvision.train.curve_labels import curve_labels

TRAIN = [
    {"kind": "train", "step": step, "loss": 0.1 / step, "accuracy": 10.0 + step, "learning_rate": 0.01 * step}
    for step in (10, 20, 30)
]
EVAL = [
    {"kind": "eval", "step": step, "eval_loss": 2.0, "ema_eval_loss": 1.5, "top1": 88.0 + step / 10, "ema_top1": 90.0}
    for step in (15, 30)
]
MIXED = {"train_loss": "binary cross-entropy", "train_images": "mixed and augmented images"}
SAME = {"train_loss": EVAL_LOSS, "train_images": "augmented images"}


def titles(records, labels):
    return [panel.title for panel in panels(records, **labels)]


def test_different_losses_have_different_axes():
    assert titles(TRAIN + EVAL, MIXED) == [
        "training loss: binary cross-entropy", "evaluation loss: cross-entropy", "top-1 %", "learning rate"
    ]  # fmt: skip
    assert titles(TRAIN + EVAL, SAME) == ["loss: cross-entropy", "top-1 %", "learning rate"]
    together = panels(TRAIN + EVAL, **SAME)[0]
    assert [c.values for c in together.curves] == [(0.01, 0.005, 0.1 / 30), (2.0, 2.0), (1.5, 1.5)]


def test_legends_name_the_training_images_and_the_final_values():
    (top1,) = (panel for panel in panels(TRAIN + EVAL, **MIXED) if panel.title == "top-1 %")
    assert [curve.label for curve in top1.curves] == [
        "train (mixed and augmented images): 40.00",
        "evaluation, raw weights: 91.00",
        "evaluation, EMA weights: 90.00",
    ]
    assert [curve.steps for curve in top1.curves] == [(10, 20, 30), (15, 30), (15, 30)]


def test_only_what_was_recorded_has_a_panel():
    assert titles([], MIXED) == []
    assert titles(EVAL, MIXED) == ["evaluation loss: cross-entropy", "top-1 %"]
    assert titles(TRAIN, MIXED) == ["training loss: binary cross-entropy", "top-1 %", "learning rate"]
    # A loss that was NaN is null in the records.
    assert titles([TRAIN[0] | {"loss": None}], MIXED) == ["top-1 %", "learning rate"]


def test_single_points_and_evaluations_are_marked():
    assert all(curve.sparse for panel in panels(TRAIN[:1] + EVAL, **MIXED) for curve in panel.curves)
    train = [c for panel in panels(TRAIN, **MIXED) for c in panel.curves]
    assert train and not any(curve.sparse for curve in train)


@pytest.mark.parametrize("records", [TRAIN + EVAL, TRAIN[:1], EVAL[:1]])
def test_a_picture_is_written_and_nothing_else(tmp_path, records):
    plot_curves(records, tmp_path / "curves.png", "resnet50 on digits", **MIXED)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert np.asarray(Image.open(tmp_path / "curves.png")).std() > 10


def test_no_records_no_picture(tmp_path):
    plot_curves([], tmp_path / "curves.png", "resnet50 on digits", **MIXED)
    assert not list(tmp_path.iterdir())


def test_labels_follow_the_config():
    c = base_config()
    assert curve_labels(resolve(c)) == SAME
    c.loss.label_smoothing = 0.1
    assert curve_labels(resolve(c))["train_loss"] == "cross-entropy, labels smoothed by 0.1"
    c.loss.name, c.augment.cutmix = "binary", 1.0
    assert curve_labels(resolve(c)) == {
        "train_loss": "binary cross-entropy, mixed labels, labels smoothed by 0.1",
        "train_images": "mixed and augmented images",
    }
    c.augment.mix_prob = 0.0
    assert curve_labels(resolve(c))["train_images"] == "augmented images"
    c = base_config()
    c.progressive.mix = (0.0, 0.2)
    assert curve_labels(resolve(c))["train_images"] == "mixed and augmented images"
    c = base_config()
    c.augment.flip, c.data.crop = False, "none"
    assert curve_labels(resolve(c)) == {"train_loss": "cross-entropy", "train_images": "plain images"}
    c.teacher.name, c.teacher.weights = "resnet50", "resnet50.safetensors"
    assert curve_labels(resolve(c))["train_loss"] == "cross-entropy, with a teacher (hard)"
