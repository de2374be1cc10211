"""Makes one file of a model that runs without this library: StableHLO for JAX, or ONNX.

  python tools/export.py resnet50.a1_in1k --format stablehlo --dir resnet50            # the published weights
  python tools/export.py --weights runs/flowers --format onnx --uint8 --nchw --dir flowers      # a run

The weights are inside, with the batch normalisation folded, and the program takes any number of images. The folder also
gets export.json, with the input, the preprocessing and the names of the classes, and a README.md with the lines that
load and run the file. Before anything is written, the logits of random images are compared with the model's.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.shared import command_line

FORMATS = ("stablehlo", "onnx")
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}  # of logits, as a share of the largest


def run(args: argparse.Namespace) -> int:
    """Exports, compares and writes."""
    import jax
    import jaxlib

    import jaxvision
    from jaxvision.inference import export_folder, onnx
    from jaxvision.inference.export import PLATFORMS, ImageInput, distance, to_stablehlo
    from tools.shared.load_model import load, readable_names

    folder = args.dir.expanduser()
    export_folder.check_target(folder, overwrite=args.force)
    if args.format == "onnx":
        onnx.require_packages()
        if args.dtype != "float32":
            command_line.fail("--format onnx takes --dtype float32 only: ONNX Runtime lacks bfloat16 on a CPU")
    elif not set(args.platforms) <= set(PLATFORMS):
        command_line.fail(f"--platforms {','.join(args.platforms)}: expected some of {', '.join(PLATFORMS)}")
    loaded = load(args)
    model, settings = loaded.model, loaded.settings
    if args.uint8 and model.in_chans != 3:
        command_line.fail(f"--uint8 needs a model of RGB images, this one takes {model.in_chans} channels")
    images = ImageInput(
        size=model.image_size or (settings.size, settings.size), channels=model.in_chans, batch=args.batch,
        normalise=settings.normalise if args.uint8 else None, channels_first=args.nchw,
    )  # fmt: skip
    fused = jaxvision.fuse(model)
    if args.format == "stablehlo":
        exported = to_stablehlo(fused, images, args.platforms)
        file, content, program = export_folder.STABLEHLO, bytes(exported.serialize()), exported.call
    else:
        file, content = export_folder.ONNX, onnx.to_onnx(fused, images)
        program = onnx.onnx_runtime(content)
    if args.format == "onnx" or "cpu" in args.platforms:
        found = distance(program, model, images)
        if not found <= TOLERANCE[args.dtype]:  # also where it is NaN
            command_line.fail(f"the exported logits differ from the model's by {found:.1e} of the largest: not written")
        command_line.say(f"logits of random images differ from the model's by {found:.1e} of the largest")
    else:
        command_line.say(
            f"not compared with the model: {', '.join(args.platforms)} only, and the comparison is on a CPU"
        )
    names = readable_names(loaded.class_descriptions or loaded.class_names, model.num_classes)
    pixels = export_folder.input_in_words(images, settings.mean, settings.std)
    description = {
        "format": args.format,
        "file": file,
        "model": model.spec.name,
        "weights": loaded.identity,
        "input": {
            "name": "images", "shape": images.shape, "dtype": str(images.dtype), "layout": images.layout,
            "values": pixels, "normalised_inside": args.uint8, "resizing": settings.resizing,
            "preprocessing": dataclasses.asdict(settings),
        },
        "output": {"name": "logits", "shape": [images.shape[0], model.num_classes], "dtype": "float32"},
        "class_names": names,
        "computed_in": args.dtype,
        "made_with": {"jaxvision": jaxvision.__version__, "jax": jax.__version__, "jaxlib": jaxlib.__version__},
        "made_on": datetime.date.today().isoformat(),
    }  # fmt: skip
    made = description["made_with"]
    notes = f"Made with jax {made['jax']} and jaxlib {made['jaxlib']}."
    if args.format == "stablehlo":
        description |= {"platforms": args.platforms, "compatibility": export_folder.WINDOW}
        notes += f" It runs on {', '.join(args.platforms)}. {export_folder.WINDOW}."
    else:
        description |= {"opset": onnx.OPSET}
        notes += f" Opset {onnx.OPSET}: ONNX Runtime 1.18 or newer."
    readme = export_folder.readme(
        f"{model.spec.name}, {loaded.identity}", file, images, pixels=pixels, resizing=settings.resizing,
        num_classes=model.num_classes, notes=notes,
    )  # fmt: skip
    document = json.dumps(description, indent=1, ensure_ascii=False).encode()
    files = {file: content, export_folder.README: readme, export_folder.DESCRIPTION: document + b"\n"}
    export_folder.write(folder, files, overwrite=args.force)
    command_line.say(
        f"wrote {folder}: {file} ({math.ceil(len(content) / 2**20)} MiB), {export_folder.DESCRIPTION}, "
        f"{export_folder.README}\n"
        f"input: {images.dtype} {list(images.shape)}, {pixels}\n"
        f"load it: the lines in {folder / export_folder.README}"
    )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    command_line.add_model_name(parser)
    command_line.add_weights_arguments(parser, fuse=False)  # folded below, so that this is compared, too
    parser.add_argument("--format", required=True, choices=FORMATS, help="of the file")
    parser.add_argument("--dir", "--out", metavar="DIR", type=Path, required=True, help="the folder to write")
    parser.add_argument("--force", action="store_true", help="replace an export that is in the folder")
    parser.add_argument("-b", "--batch", "--batch-size", metavar="N", type=int, help="images of a call (any number)")
    parser.add_argument("--uint8", action="store_true", help="take pixels from 0 to 255, and normalise inside")
    parser.add_argument("--nchw", action="store_true", help="take images as (N, C, H, W)")
    parser.add_argument(
        "--platforms", metavar="A,B", type=lambda text: text.split(","),
        help="of StableHLO: where it can run, of cpu, cuda, rocm, tpu (cpu,cuda,tpu)",
    )  # fmt: skip
    args = command_line.parse(parser, argv, model_required=False)
    if args.batch is not None and args.batch < 1:
        parser.error("--batch must be at least 1")
    if args.platforms is not None and args.format != "stablehlo":
        parser.error("--platforms is for --format stablehlo: an ONNX file runs wherever its reader does")
    args.platforms = args.platforms or ["cpu", "cuda", "tpu"]
    return command_line.run(run, args)


if __name__ == "__main__":
    command_line.start(main)
