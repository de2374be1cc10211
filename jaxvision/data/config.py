"""The sections ``config.data`` and ``config.eval``: what is read, and how it is cropped and resized."""

from __future__ import annotations

import dataclasses
import re

from jaxvision.data.decode import CROP_MODES, CROPS, DCT_METHODS, HOST_POLICIES
from jaxvision.data.resizing import EVAL_RESIZES, RESIZES
from jaxvision.errors import UserError
from jaxvision.options import LARGEST_INT, option, ordered


def parse_fold(text: str) -> tuple[int, int] | None:
    """(k, n) of "k/n", None of an empty text.

    Raises:
      UserError: anything but 1 <= k <= n with n at least 2.
    """
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) or int(match[2]) < 2:
        raise UserError('expected "k/n" with 1 <= k <= n, for example "1/5"')
    return int(match[1]), int(match[2])


def _fold_problem(text: str) -> str | None:
    try:
        parse_fold(text)
    except UserError as error:
        return str(error)
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data set, crops of training images, and the threads that prepare them."""

    name: str = option(
        "imagenet2012",
        'a data set prepared by tfds, or "digits", "folder", "npz", "synthetic"',
        check=lambda name: None if name else "must name a data set",
    )
    dir: str = option("~/tensorflow_datasets", 'tfds\'s data_dir; for "folder" the folder, for "npz" the file')
    train_split: str = option(
        "train", 'split to train on; of tfds also a slice such as "train[:99%]"; "." of a folder: itself'
    )
    eval_split: str = option("validation", "split to evaluate on")
    class_map: str = option(
        "",
        "the order of the classes, such as that of a pretrained classifier: a file with one name per line, or "
        '"imagenet" for its 1000 WordNet ids; empty: as in the data',
    )
    fold: str = option(
        "",
        '"k/n": train on the training split without its k-th of n parts and evaluate on that part; of a '
        "folder each part has its share of each class; empty: no folds",
        check=_fold_problem,
    )
    policy: str = option(
        "",
        'augmentation policy of the host, on the whole image before the crop: "resnest": ResNeSt\'s AutoAugment, by '
        "Pillow; empty: none. augment.policy is that of the device, on the crop",
        choices=HOST_POLICIES,
    )
    crop: str = option(
        "torch",
        'how a crop is drawn: "torch": as torchvision\'s RandomResizedCrop; "tf": as TensorFlow, smaller on average; '
        '"none": the whole image, squashed',
        choices=CROPS,
    )
    crop_area: tuple[float, float] = option(
        (0.08, 1.0), "smallest and largest share of the image that a crop covers", above=0, high=1, check=ordered
    )
    crop_ratio: tuple[float, float] = option(
        (3 / 4, 4 / 3), "smallest and largest width over height of a crop", low=1e-3, high=1e3, check=ordered
    )
    dct_method: str = option(
        "accurate",
        'JPEG decoding, in training and evaluation: "accurate": as Pillow; "fast": as TensorFlow by default',
        choices=DCT_METHODS,
    )
    min_object_covered: float = option(
        0.1, 'of the crop "tf": crops that cover a smaller share of the image are drawn again', low=0, high=1
    )
    resize: str = option(
        "filter",
        'filter of the resize: "filter": nearly antialiased and fast; "bicubic", "bilinear": Pillow\'s; "random": one '
        'of these two for each image, as timm; "area", "linear": OpenCV\'s, "linear" not antialiased; "tf_bicubic": '
        "TensorFlow 1's, \"tf_bilinear\": TensorFlow 2's, neither antialiased",
        choices=RESIZES,
    )
    repeats: int = option(
        1, "repeated augmentation: copies of an image in a batch, on different devices (see replicas)", low=1, high=64
    )
    threads: int = option(0, "decoding threads; 0: one per core", low=0, high=1024)
    ahead: int = option(2, "batches prepared ahead", low=1, high=1024)
    verify_records: bool = option(
        True, "compare each record of a TFRecord file with its checksums when it is read; array_record always does"
    )
    on_corrupt: str = option(
        "fail",
        'an unreadable example: "fail": ends the run; "skip": is replaced by the next readable one and reported',
        choices=("fail", "skip"),
    )
    verify_records: bool = option(
        True, "compare the checksums of each TFRecord that is read; array_record files are always compared"
    )
    synthetic_examples: int = option(1024, "size of the synthetic data set", low=1, high=LARGEST_INT)
    synthetic_classes: int = option(10, "classes of the synthetic data set", low=1, high=100_000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluation: every example once, resized and cropped in the centre; the defaults are timm's."""

    batch_size: int = option(0, "images per step of all devices; 0: as in training", low=0, high=2**20)
    image_size: int = option(0, "pixels of a side; 0: as in training", low=0, high=4096)
    crop_pct: float = option(0.875, "side of the crop divided by that of the resized image", low=0.1, high=1)
    crop_mode: str = option(
        "center",
        '"center": resize the short side, then crop; "crop_first": crop, then resize, as TensorFlow\'s code; "squash": '
        "resize both sides to the same length, then crop",
        choices=CROP_MODES,
    )
    interpolation: str = option("bicubic", "filter of the resize, as in data.resize", choices=EVAL_RESIZES)
    every_epochs: float = option(1.0, "epochs between evaluations", above=0, high=1e6)
