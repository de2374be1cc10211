"""Prepares ImageNet-2012 with tfds's own builder from the two official tar files, and checks the image counts.

  pip install -e '.[prepare]'
  python tools/prepare_imagenet.py --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar --out DIR

Needs about 160 GB in DIR and some hours. Training reads the result as it is, without TensorFlow.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.shared import command_line

EXPECTED = {"train": 1_281_167, "validation": 50_000}


def main() -> int:
    """Prepares and checks; returns the exit status."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="ILSVRC2012_img_train.tar")
    parser.add_argument("--val", type=Path, required=True, help="ILSVRC2012_img_val.tar")
    parser.add_argument(
        "--out", "--data-dir", type=Path, required=True, help="where to write it; later --config.data.dir"
    )
    parser.add_argument("--shards", type=int, help="files per split (default: tfds decides, 1024 for train)")
    parser.add_argument("--allow-partial", action="store_true", help="accept tar files with fewer images")
    args = parser.parse_args()
    from jaxvision.errors import UserError, require

    problems = [f"{path} does not exist" for path in (args.train, args.val) if not path.is_file()]
    problems += [
        f"{path} is not a tar file"
        for path in (args.train, args.val)
        if path.is_file() and not tarfile.is_tarfile(path)
    ]
    try:
        require("prepare", "tensorflow", "tensorflow_datasets", "importlib_resources")
    except UserError as error:
        problems.append(str(error))
    if problems:
        print("error: " + "; ".join(problems), file=sys.stderr)
        return 2

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow_datasets as tfds

    args.out.mkdir(parents=True, exist_ok=True)
    # tfds looks for the official names in one folder; links avoid copying 150 GB.
    with tempfile.TemporaryDirectory(dir=args.out) as manual:
        (Path(manual) / "ILSVRC2012_img_train.tar").symlink_to(args.train.resolve())
        (Path(manual) / "ILSVRC2012_img_val.tar").symlink_to(args.val.resolve())
        builder = tfds.builder("imagenet2012", data_dir=str(args.out), file_format="tfrecord")
        config = tfds.download.DownloadConfig(manual_dir=manual, num_shards=args.shards)
        builder.download_and_prepare(download_config=config)

    folder = Path(builder.data_path)
    info = json.loads((folder / "dataset_info.json").read_text())
    counts = {s["name"]: sum(map(int, s["shardLengths"])) for s in info["splits"]}
    print(f"{counts['train']} training and {counts['validation']} validation images in {folder}")
    wrong = [f"{split} has {counts[split]} images, expected {n}" for split, n in EXPECTED.items() if counts[split] != n]
    if wrong and not args.allow_partial:
        print(f"error: {'; '.join(wrong)}. Are the tar files complete? (--allow-partial accepts this)", file=sys.stderr)
        return 1
    print(f"train with: python -m jaxvision.main --config configs/resnet_rs50.py --config.data.dir={args.out}")
    return 0


if __name__ == "__main__":
    command_line.start(main)
