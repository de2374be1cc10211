"""Where a classifier is wrong: confusion matrix, accuracy of each class, and the mistakes it is surest of, as files."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.files import replace_file, replace_text
from jaxvision.run.contact_sheet import contact_sheet, short_names

MOST_DRAWN = 100  # classes of the picture; of more, those with the most mistakes
MOST_SHOWN = 30  # mistakes on the sheet
_LONGEST = 26  # characters of a name in the picture
_SIZES = {4: (1.1, 12, 12), 12: (0.62, 11, 11), 40: (0.36, 10, 9), MOST_DRAWN: (0.2, 10, 7.5)}  # by number of classes


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a classifier says of N images.

    Attributes:
      labels, answers: the right class and the one it says, int (N,).
      confidence: probability that it gives to its answer, float (N,).
    """

    labels: np.ndarray
    answers: np.ndarray
    confidence: np.ndarray

    @property
    def mistakes(self) -> np.ndarray:
        """Indices of the images with wrong answers, the most confident first, int (M,)."""
        wrong = np.flatnonzero(self.labels != self.answers)
        # A NaN, which no confidence is higher than, comes first.
        return wrong[np.argsort(-np.nan_to_num(self.confidence[wrong], nan=2.0), kind="stable")]

    def matrix(self) -> tuple[np.ndarray, np.ndarray]:
        """How many images of each class (rows) were taken for each (columns): int (K, K), and which K classes.

        Only classes that occur, as labels or answers, are in it: a model may have 21,841.
        """
        classes, places = np.unique(np.concatenate([self.labels, self.answers]), return_inverse=True)
        rows, columns = np.split(places, 2)
        count = len(classes)
        return np.bincount(rows * count + columns, minlength=count**2).reshape(count, count), classes


def write_report(
    folder: Path,
    answers: Answers,
    names: Sequence[str],
    files: Callable[[int], str],
    image: Callable[[int], np.ndarray],
) -> list[Path]:
    """Writes confusion.png, confusion.csv, classes.csv, mistakes.png and mistakes.csv.

    Args:
      folder: where to, created if it is missing.
      answers: of all images.
      names: of the classes.
      files: the place of an image, by its index.
      image: the network's input of an image, uint8 (H, W, 3), by its index.

    Returns:
      The files that were written; without mistakes there is no sheet of them.
    """
    matrix, classes = answers.matrix()
    shown = [names[k] for k in classes]
    rows = [["class", *shown], *([name, *map(int, row)] for name, row in zip(shown, matrix, strict=True))]
    _write_csv(folder / "confusion.csv", rows)
    _write_csv(folder / "classes.csv", class_rows(matrix, shown))
    figure = draw_confusion(matrix, shown)
    picture = folder / "confusion.png"
    replace_file(picture, lambda path: figure.savefig(path, dpi=100, format="png", bbox_inches="tight"))
    wrong = answers.mistakes
    rows = [
        [files(i), names[answers.labels[i]], names[answers.answers[i]], f"{answers.confidence[i]:.4f}"] for i in wrong
    ]
    _write_csv(folder / "mistakes.csv", [["image", "class", "answer", "confidence"], *rows])
    written = [picture, *(folder / name for name in ("confusion.csv", "classes.csv", "mistakes.csv"))]
    sheet = folder / "mistakes.png"
    if not len(wrong):
        sheet.unlink(missing_ok=True)  # of an earlier report
        return written
    worst = rows[:MOST_SHOWN]
    captions = [
        [file, f"is {label}", f"answer {answer}", f"confidence {100 * float(share):.1f} %"]
        for file, (_, label, answer, share) in zip(short_names([row[0] for row in worst]), worst, strict=True)
    ]
    pictures = [image(int(i)) for i in wrong[:MOST_SHOWN]]
    replace_file(sheet, lambda path: contact_sheet(pictures, captions).save(path, "PNG"))
    return [*written, sheet]


def class_rows(matrix: np.ndarray, names: Sequence[str]) -> list[list[Any]]:
    """A table of the classes that have images: images, right ones, top-1 %, and the most frequent wrong answer."""
    rows: list[list[Any]] = [["class", "images", "right", "top-1 %", "most frequent mistake", "times"]]
    for k, (name, row) in enumerate(zip(names, matrix, strict=True)):
        if not (total := int(row.sum())):
            continue
        others = np.where(np.arange(len(row)) == k, -1, row)
        worst = int(others.argmax())
        mistake = [names[worst], int(row[worst])] if others[worst] > 0 else ["", 0]
        rows.append([name, total, int(row[k]), f"{100 * row[k] / total:.2f}", *mistake])
    return rows


def confusions(matrix: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """The most frequent mistakes as (class, answer, times), at most so many."""
    wrong = _wrong(matrix)
    places = np.argsort(-wrong, axis=None, kind="stable")[:most]
    found = [(*map(int, divmod(place, len(matrix))), int(wrong.flat[place])) for place in places]
    return [entry for entry in found if entry[2]]


def draw_confusion(matrix: np.ndarray, names: Sequence[str]) -> Any:
    """The figure of a confusion matrix: blue is right, red is wrong, each as a share of its row, with the counts.

    Args:
      matrix: int (K, K), a class per row and an answer per column.
      names: of the K classes; of more than :data:`MOST_DRAWN` the ones with the most mistakes are drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    total, right, count = int(matrix.sum()), int(np.trace(matrix)), len(matrix)
    title = f"{right} of {total} images right: top-1 {100 * right / max(total, 1):.2f} %"
    wrong, images, kept = _wrong(matrix), matrix.sum(1), np.arange(count)
    if count > MOST_DRAWN:
        kept = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:MOST_DRAWN])
        title += f"; the {MOST_DRAWN} of {count} classes with the most mistakes"
        count = MOST_DRAWN
    matrix, wrong, images = matrix[np.ix_(kept, kept)], wrong[np.ix_(kept, kept)], images[kept]
    names = [names[k] for k in kept]
    labels = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3].rstrip()}..." for name in names]
    # Inches of a cell; points of names and of counts. The picture of 100 classes can be read at half its size.
    cell, font, small = next(sizes for most, sizes in _SIZES.items() if count <= most)
    longest = 0.0105 * font * max(map(len, labels))
    side, margin = count * cell, 1.0 + longest
    width, height = margin + side + 0.16 * font, margin + side + 0.6
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axis = figure.add_axes((margin / width, margin / height, side / width, side / height))
    share, accuracy = wrong / np.maximum(images, 1)[:, None], np.diag(matrix) / np.maximum(images, 1)
    # The square root: one mistake among fifty images has to be seen.
    colors = np.ones((count, count, 3)) - np.sqrt(share)[..., None] * np.array([0.15, 0.75, 0.75])
    colors[np.diag_indices(count)] = 1 - accuracy[:, None] * np.array([0.75, 0.45, 0.15])
    axis.imshow(colors, interpolation="nearest")
    for row, column in zip(*np.nonzero(matrix), strict=True):
        dark = accuracy[row] > 0.6 if row == column else share[row, column] > 0.5
        place, color = {"ha": "center", "va": "center_baseline", "fontsize": small}, "white" if dark else "black"
        axis.text(column, row, str(matrix[row, column]), color=color, **place)
    axis.set_xticks(range(count), labels, rotation=0 if longest < 0.95 * cell else 90, fontsize=font)
    axis.set_yticks(range(count), labels, fontsize=font)
    for row in range(count):
        text = f"{100 * accuracy[row]:.0f} % of {images[row]}" if images[row] else "no images"
        axis.text(count - 0.3, row, text, va="center", fontsize=font)
    axis.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="#d8d8d8", linewidth=0.5)
    axis.tick_params(which="minor", length=0)
    axis.set_ylabel("class", fontsize=font)
    axis.set_xlabel("answer", fontsize=font)
    # Over the whole picture, which may be narrower than the title: saving it "tight" makes room.
    axis.set_title(title, fontsize=max(font, 12), pad=12)
    return figure


def _wrong(matrix: np.ndarray) -> np.ndarray:
    """A confusion matrix without its diagonal."""
    return matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    replace_text(path, text.getvalue())
