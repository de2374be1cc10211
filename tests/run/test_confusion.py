"""The report on a classifier's mistakes: its counts, its files, and pictures that can be read."""

import csv
import itertools

import numpy as np
import pytest
from PIL import Image

from jaxvision.run import confusion
from jaxvision.run.confusion import Answers

NAMES = ["ant", "bee", "cat", "dog"]
#                   right, right, right, wrong...
LABELS = np.array([0, 0, 1, 1, 1, 1, 3, 3])
SAID = np.array([0, 0, 1, 3, 3, 0, 3, 1])
SURE = np.array([0.9, 0.8, 0.7, 0.6, 0.95, 0.5, 0.4, np.nan])


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def picture(i):
    return np.full((8, 8, 3), 30 * i, np.uint8)


def write(folder, answers=None):
    answers = Answers(LABELS, SAID, SURE) if answers is None else answers

    return confusion.write_report(folder, answers, NAMES, lambda i: f"/photos/{i}.jpg", picture)


def test_the_matrix_and_the_mistakes_are_those_of_scikit_learn():
    from sklearn.metrics import confusion_matrix

    rng = np.random.default_rng(0)
    labels, said = rng.integers(0, 7, 500), rng.integers(0, 9, 500)
    labels[labels == 3] = 4  # class 3 is an answer only
    said[said == 5] = 6  # nothing is class 5 by mistake
    answers = Answers(labels, said, rng.random(500))
    matrix, classes = answers.matrix()
    np.testing.assert_array_equal(matrix, confusion_matrix(labels, said))
    np.testing.assert_array_equal(classes, np.union1d(labels, said))
    wrong = answers.mistakes
    assert set(wrong) == set(np.flatnonzero(labels != said)) and (np.diff(answers.confidence[wrong]) <= 0).all()
    label, answer, times = confusion.confusions(matrix, 1)[0]
    off = matrix - np.diag(np.diag(matrix))
    assert times == off.max() == off[label, answer]


def test_the_tables_of_a_report(tmp_path):
    names = [path.name for path in write(tmp_path / "report")]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "report").iterdir())
    assert "mistakes.png" in names
    assert rows(tmp_path / "report" / "confusion.csv") == [
        ["class", "ant", "bee", "dog"],
        ["ant", "2", "0", "0"],
        ["bee", "1", "1", "2"],
        ["dog", "0", "1", "1"],
    ]
    assert rows(tmp_path / "report" / "classes.csv") == [
        ["class", "images", "right", "top-1 %", "most frequent mistake", "times"],
        ["ant", "2", "2", "100.00", "", "0"],
        ["bee", "4", "1", "25.00", "dog", "2"],
        ["dog", "2", "1", "50.00", "bee", "1"],
    ]
    # A NaN is the first to look at, then the most confident.
    assert [row[0] for row in rows(tmp_path / "report" / "mistakes.csv")[1:]] == [
        f"/photos/{i}.jpg" for i in (7, 4, 3, 5)
    ]
    assert rows(tmp_path / "report" / "mistakes.csv")[2] == ["/photos/4.jpg", "bee", "dog", "0.9500"]
    assert np.asarray(Image.open(tmp_path / "report" / "mistakes.png")).std() > 20


def test_without_mistakes_no_sheet_of_an_earlier_report_stays(tmp_path):
    write(tmp_path)
    assert (tmp_path / "mistakes.png").is_file()
    written = write(tmp_path, Answers(LABELS, LABELS, SURE))
    assert "mistakes.png" not in {path.name for path in written} and not (tmp_path / "mistakes.png").exists()
    assert rows(tmp_path / "mistakes.csv") == [["image", "class", "answer", "confidence"]]


@pytest.mark.parametrize("count", [1, 2, 10, 41, 100, 130])
def test_labels_of_the_picture_can_be_read(count):
    """No name covers another, no count its neighbour's, and the title says what is missing."""
    rng = np.random.default_rng(0)
    matrix = np.diag(rng.integers(20, 60, count)) + (rng.random((count, count)) < 0.1) * rng.integers(1, 20, (1, count))
    figure = confusion.draw_confusion(matrix, [f"a rather long name of class {i}" for i in range(count)])
    (axis,) = figure.axes
    figure.canvas.draw()
    drawn = min(count, confusion.MOST_DRAWN)
    assert len(axis.get_yticklabels()) == len(axis.get_xticklabels()) == drawn
    assert ("classes with the most mistakes" in axis.get_title()) == (count > drawn)
    boxes = [label.get_window_extent() for label in axis.get_yticklabels()]
    assert all(a.y0 >= b.y1 for a, b in itertools.pairwise(boxes))
    boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
    assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(boxes))
    assert min(label.get_fontsize() for label in axis.get_yticklabels()) >= 10
    cell = axis.get_window_extent().width / drawn
    counts = [text for text in axis.texts if text.get_text().isdigit()]
    assert len(counts) >= drawn and max(text.get_window_extent().width for text in counts) < cell
    lines = [text.get_text() for text in axis.texts if "% of" in text.get_text()]
    assert len(lines) == drawn


def test_colors_show_what_is_right_and_what_is_wrong():
    figure = confusion.draw_confusion(np.array([[8, 2, 0], [0, 5, 5], [0, 0, 0]]), ["a", "b", "only an answer"])
    (axis,) = figure.axes
    red, green, blue = np.moveaxis(axis.images[0].get_array(), -1, 0)
    assert blue[0, 0] > red[0, 0] and red[0, 1] > blue[0, 1] and red[1, 2] > blue[1, 2]
    assert green[1, 2] < green[0, 1] < 1, "more of the row is darker"
    assert (green[0, 2], green[1, 0]) == (1, 1)
    assert [t.get_text() for t in axis.texts if not t.get_text().isdigit()] == ["80 % of 10", "50 % of 10", "no images"]
    assert axis.get_title() == "13 of 20 images right: top-1 65.00 %"
