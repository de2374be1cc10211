"""A picture of the images that a recipe trains on, made by the same code as a training run.

It shows examples of one batch in pairs: the original image, and below it the network's input after crop, augmentation,
Mixup and CutMix, with the labels that it is trained with.

  python tools/show_augment.py --config configs/deit_s.py:folder=/data/flowers --out sheet.png
  python tools/show_augment.py --config configs/convnext_t.py:digits --step 40 --images 24 --config.augment.mixup=0
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.shared import command_line


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--config", required=True, help="a config file, as for jaxvision.main")
    parser.add_argument("--out", type=Path, default=Path("augment.png"), help="the PNG file to write (augment.png)")
    parser.add_argument("--step", type=int, default=0, help="step of the run whose batch is shown (0)")
    parser.add_argument("--images", type=int, default=16, help="number of images to show (16)")
    args, rest = parser.parse_known_args(argv)
    if args.images < 1:
        parser.error(f"--images must be at least 1, got {args.images}")

    def run(rest: list[str]) -> int:
        from jaxvision import main as main_lib
        from jaxvision.train import inputs
        from jaxvision.train.augment_sheet import write_sheet

        config, _ = main_lib.parse(["--config", args.config, *rest])
        source = inputs.open_train(config)
        drawn = write_sheet(config, source, args.out, name=args.config, step=args.step, most=args.images)
        print(f"wrote {args.out}: {drawn}")
        return 0

    return command_line.run(run, rest)


if __name__ == "__main__":
    command_line.start(main)
