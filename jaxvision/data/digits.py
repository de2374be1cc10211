"""scikit-learn's handwritten digits as a real tfds data set: 1437 train and 360 test images of 8x8.

Run ``python -m jaxvision.data.digits DIR`` to write it (TFRecord, PNG-encoded). Training
does so itself on first use, in a process of its own, so that TensorFlow is never in the
training process.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np

from jaxvision.data.sources import ArraySource, Source, tfds_source
from jaxvision.errors import UserError

NAME, VERSION = "jaxvision_digits", "1.0.0"
CLASS_NAMES = [str(i) for i in range(10)]
_TEST = 360


def arrays() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The fixed split: {"train": (images uint8 (1437, 8, 8), labels), "test": (images uint8 (360, 8, 8), labels)}."""
    import sklearn.datasets

    data = sklearn.datasets.load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    test, train = np.sort(order[:_TEST]), np.sort(order[_TEST:])
    return {"train": (images[train], data.target[train]), "test": (images[test], data.target[test])}


def source(data_dir: Path, split: str) -> Source:
    """The digits from ``data_dir``, prepared there on first use.

    Without tensorflow-datasets (GPU images often lack it) the same pixels come straight from scikit-learn.
    """
    if not (data_dir / NAME / VERSION / "dataset_info.json").is_file():
        if any(importlib.util.find_spec(name) is None for name in ("tensorflow_datasets", "tensorflow")):
            if split not in arrays():
                raise UserError(f"the digits have no split {split!r}; they have train and test")
            images, labels = arrays()[split]
            return ArraySource(images, labels, class_names=CLASS_NAMES, name=f"digits {split}")
        result = subprocess.run(
            [sys.executable, "-m", "jaxvision.data.digits", str(data_dir)], capture_output=True, text=True
        )
        if result.returncode:
            reason = result.stderr.strip().splitlines()[-1:] or ["no message"]
            raise UserError(f"could not write the digits data set to {data_dir}: {reason[0]}")
    return tfds_source(NAME, data_dir, split)


def prepare(data_dir: Path) -> None:
    """Writes the data set with tfds's own builder machinery."""
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
    builder = JaxvisionDigits(data_dir=str(data_dir), file_format="tfrecord")
    builder.download_and_prepare()


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
