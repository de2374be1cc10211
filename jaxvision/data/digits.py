"""The handwritten digits of scikit-learn, packaged as a prepared tfds data set: no download, no TensorFlow to read it.

1437 training and 360 test images of 8x8 pixels, PNG in TFRecord, under ``jaxvision/data/prepared``. This writes the
same data set again (it needs the extra prepare, and scikit-learn):

  python -m jaxvision.data.digits DIR
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from jaxvision.data.tfds import TFRecordSource, tfds_source
from jaxvision.errors import UserError, require

NAME, VERSION = "jaxvision_digits", "1.0.0"
DATA_DIR = Path(__file__).parent / "prepared"
"""The tfds data_dir inside the package; nothing writes to it."""
CLASS_NAMES = [str(i) for i in range(10)]
_TEST = 360


def source(split: str, *, verify: bool = True) -> TFRecordSource:
    """The packaged digits.

    Args:
      split: "train" or "test"; a tfds slice such as ``train[:80%]`` works too.
      verify: whether the checksums of each record that is read are compared.

    Raises:
      UserError: there is no such split.
    """
    return tfds_source(NAME, DATA_DIR, split, verify=verify)


def arrays() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The digits from scikit-learn, in the fixed split of the data set.

    Returns:
      ``{"train": (images, labels), "test": (images, labels)}``; images uint8 (N, 8, 8), scikit-learn's 0..16 scaled to
      0..255; labels int (N,); N is 1437 and 360.
    """
    import sklearn.datasets

    data = sklearn.datasets.load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    test, train = np.sort(order[:_TEST]), np.sort(order[_TEST:])
    return {"train": (images[train], data.target[train]), "test": (images[test], data.target[test])}


def prepare(data_dir: Path) -> None:
    """Writes the data set to ``data_dir`` with tfds's own builder; imports TensorFlow."""
    import tensorflow_datasets as tfds

    class JaxvisionDigits(tfds.core.GeneratorBasedBuilder):
        """Optical recognition of handwritten digits (Alpaydin and Kaynak 1998), as shipped by scikit-learn."""

        VERSION = tfds.core.Version(VERSION)

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description="1797 handwritten digits of 8x8 pixels, from scikit-learn, with a fixed split.",
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                        "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
            return {split: self._generate_examples(*arrays()[split]) for split in ("train", "test")}

        def _generate_examples(self, images: np.ndarray, labels: np.ndarray):  # noqa: ANN202
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                yield index, {"image": image[..., None], "label": int(label)}

    tfds.disable_progress_bar()
    JaxvisionDigits(data_dir=str(data_dir), file_format="tfrecord").download_and_prepare()


def main(argv: list[str]) -> int:
    """Writes the data set to the folder that ``argv`` names; returns the exit status."""
    try:
        if len(argv) != 1 or argv[0].startswith("-"):
            raise UserError("name the folder to write to: python -m jaxvision.data.digits DIR")
        require("prepare", "tensorflow", "tensorflow_datasets", "importlib_resources")
        require("test", "sklearn")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        prepare(Path(argv[0]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
