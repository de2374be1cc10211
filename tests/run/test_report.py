"""The curves of a run: which panels there are, what shares their axes, and what the legends say."""

import itertools

import numpy as np
import pytest
from PIL import Image

from jaxvision.config import base_config, resolve
from jaxvision.run.report import EVAL_LOSS, curves_figure, loss_spikes, panels, plot_curves, summary
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


def axes(records, labels):
    """The axes of the drawn picture by the first words of their titles, and what measures their texts."""
    figure = curves_figure(panels(records, **labels), "resnet50 on digits")
    figure.draw_without_rendering()
    return {axis.get_title().split(":")[0]: axis for axis in figure.axes}, figure.canvas.get_renderer()


def test_different_losses_have_different_axes():
    assert titles(TRAIN + EVAL, MIXED) == [
        "training loss: binary cross-entropy", "evaluation loss: cross-entropy", "top-1 %", "learning rate"
    ]  # fmt: skip
    assert titles(TRAIN + EVAL, SAME) == ["training and evaluation loss: cross-entropy", "top-1 %", "learning rate"]
    together = panels(TRAIN + EVAL, **SAME)[0]
    assert [c.values for c in together.curves] == [(0.01, 0.005, 0.1 / 30), (2.0, 2.0), (1.5, 1.5)]


def test_legends_name_the_training_images_and_line_ends_the_final_values():
    (top1,) = (panel for panel in panels(TRAIN + EVAL, **MIXED) if panel.title == "top-1 %")
    assert [(curve.label, curve.final) for curve in top1.curves] == [
        ("training, mixed and augmented images", "40.00"),
        ("evaluation, raw weights", "91.00"),
        ("evaluation, EMA weights", "90.00"),
    ]
    assert [curve.steps for curve in top1.curves] == [(10, 20, 30), (15, 30), (15, 30)]
    found, _ = axes(TRAIN + EVAL, MIXED)
    assert all(axis.get_legend() is None for axis in found.values())
    (legend,) = found["top-1 %"].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [c.label for c in top1.curves]
    ends = {text.get_text(): text.get_position() for text in found["top-1 %"].texts}
    assert sorted(ends) == ["40.00", "90.00", "91.00"]
    for value, (step, height) in ends.items():
        assert 30 < step < 31 and height == pytest.approx(float(value), abs=4)
    assert [t.get_text() for t in found["training loss"].texts] == ["0.003333"]  # a small loss keeps its digits


@pytest.mark.parametrize("labels", [MIXED, SAME])
def test_the_legend_hides_nothing(labels):
    found, renderer = axes(TRAIN + EVAL, labels)
    (legend,) = found["top-1 %"].figure.legends
    box = legend.get_window_extent(renderer)
    assert not any(box.overlaps(axis.get_tightbbox(renderer)) for axis in found.values())
    assert box.x0 >= 0 and box.y0 >= 0


def test_the_end_of_a_run_names_the_files_that_it_left(tmp_path):
    for name in ("classes.txt", "config.json", "metrics.jsonl"):
        (tmp_path / name).touch()
    text = summary([], name="x", workdir=tmp_path, best_step=None, skipped={})
    assert text.splitlines()[-1] == f"  in {tmp_path}: metrics.jsonl, config.json, classes.txt"


@pytest.mark.parametrize("final", [(90.0, 90.0, 90.0), (0.0, 0.0, 0.1), (99.9, 100.0, 100.0), (36.2, 88.0, 88.1)])
def test_final_values_neither_overlap_nor_leave_the_axes(final):
    train, raw, ema = final
    records = [*TRAIN, TRAIN[-1] | {"step": 40, "accuracy": train}]
    records += [EVAL[0], EVAL[1] | {"step": 40, "top1": raw, "ema_top1": ema}]
    found, renderer = axes(records, MIXED)
    window = found["top-1 %"].get_window_extent(renderer)
    boxes = [text.get_window_extent(renderer) for text in found["top-1 %"].texts]
    assert len(boxes) == 3
    for i, box in enumerate(boxes):
        assert window.x0 < box.x0 and box.x1 < window.x1 and window.y0 <= box.y0 and box.y1 <= window.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_a_run_of_three_steps_has_a_bar_for_each_value():
    """Its only records are at the end: no point is alone in its axes, and none of them is empty."""
    end = [TRAIN[0] | {"step": 3}, EVAL[0] | {"step": 3}]
    found, _ = axes(end, MIXED)
    assert list(found) == ["training loss", "evaluation loss", "top-1 %"]  # one learning rate is no schedule
    assert len({axis.get_position().y0 for axis in found.values()}) == 1  # a row: no place of a grid is left empty
    top1 = found["top-1 %"]
    bars = {text.get_text(): bar.get_width() for bar, text in zip(top1.patches, top1.texts, strict=True)}
    assert bars == {
        "training, mixed and augmented images, step 3: 20.00": 20.0,
        "evaluation, raw weights, step 3: 89.50": 89.5,
        "evaluation, EMA weights, step 3: 90.00": 90.0,
    }


def test_nearly_equal_losses_are_not_magnified():
    records = [
        EVAL[0] | {"eval_loss": 2.30880, "ema_eval_loss": 2.30890},
        EVAL[1] | {"eval_loss": 2.30885, "ema_eval_loss": 2.30895},
    ]
    low, high = axes(records, MIXED)[0]["evaluation loss"].get_ylim()
    assert low < 2.3 and high > 2.315


def test_long_titles_are_broken_inside_their_panel():
    long = MIXED | {"train_loss": "binary cross-entropy, summed over classes, mixed labels, with a teacher (hard)"}
    for records in (TRAIN + EVAL, TRAIN[:1] + EVAL[:1]):
        figure = curves_figure(panels(records, **long), "resnet50 on digits")
        figure.draw_without_rendering()
        boxes = [axis.title.get_window_extent() for axis in figure.axes]
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
        assert boxes[0].x0 > 0 and boxes[0].y1 < figure.bbox.y1


def test_only_what_was_recorded_has_a_panel():
    assert titles([], MIXED) == []
    assert titles(EVAL, MIXED) == ["evaluation loss: cross-entropy", "top-1 %"]
    assert titles(TRAIN, MIXED) == ["training loss: binary cross-entropy", "top-1 %", "learning rate"]
    # A loss that was NaN is null in the records.
    assert titles([TRAIN[0], TRAIN[1] | {"loss": None}], MIXED)[0] == "training loss: binary cross-entropy"
    assert titles([record | {"loss": None} for record in TRAIN], MIXED) == ["top-1 %", "learning rate"]


def test_few_points_are_marked():
    found, _ = axes(TRAIN + EVAL, MIXED)
    assert {line.get_marker() for axis in found.values() for line in axis.lines} == {"o"}
    many = [TRAIN[0] | {"step": step} for step in range(1, 30)]
    assert [line.get_marker() for line in axes(many, MIXED)[0]["top-1 %"].lines] == ["None"]


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


def test_spikes_of_the_loss_are_named():
    losses = [2.3, 2.2, 2.1, 4.6, 2.0, 1.9, None, 1.8, 3.7]
    records = [{"step": 10 * i, "kind": "train", "loss": loss} for i, loss in enumerate(losses)]
    assert loss_spikes(records) == [30, 60]  # 3.7 is less than twice the median, 2.1
    assert loss_spikes(records[:3]) == [] == loss_spikes([])
    assert loss_spikes([{"step": 1, "kind": "train", "loss": 1.0}, {"step": 2, "kind": "train", "loss": 2.1}]) == [2]
