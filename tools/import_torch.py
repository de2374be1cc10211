"""Converts PyTorch weights to a .safetensors file that jaxvision opens without torch, or jaxvision's weights for timm.

  python tools/import_torch.py resnet50 --weights resnet50.pth --out resnet50.safetensors
  python tools/import_torch.py convnext_tiny --timm fb_in1k --out convnext_tiny.safetensors   # downloads
  python tools/import_torch.py --reverse --weights runs/rs50 --out rs50.pth                   # a run, for timm

The file keeps timm's names and layouts, so timm loads it, too. Where timm is installed, both sides run on the same
random images, and how far the logits of each are from timm's in float64 is printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from tools.shared import command_line

if TYPE_CHECKING:
    import jaxvision
    from jaxvision.weights.state_dict import State


def smooth_images(count: int, size: tuple[int, int], channels: int) -> np.ndarray:
    """Random images without sharp edges, normalised, float32 (count, H, W, channels).

    On white noise, which no network has seen, the logits of trained EfficientNets reach thousands, and float32 loses
    digits in every library.
    """
    coarse = np.random.default_rng(0).standard_normal((count * channels, 8, 8)).astype(np.float32)
    fine = [np.asarray(Image.fromarray(c).resize(size[::-1], Image.Resampling.BICUBIC)) for c in coarse]
    return np.ascontiguousarray(np.stack(fine).reshape(count, channels, *size).transpose(0, 2, 3, 1))


def float64_distances(model: jaxvision.Model, state: State) -> tuple[float, float] | None:
    """How far our logits and timm's are from timm's in float64, relative to the largest; None without timm.

    Raises:
      UserError: logits of one side are NaN or infinite.
    """
    try:
        from tools.parity.reference import timm, torch
    except ImportError:
        return None
    from tools.parity.equality import NotFiniteError, relative_error

    size = model.image_size or (model.spec.input_size,) * 2
    arguments: dict[str, Any] = {"num_classes": model.num_classes, "in_chans": model.in_chans}
    if model.image_size is not None:
        arguments["img_size"] = size
    reference = timm.create_model(model.spec.name, **arguments).eval()
    reference.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, strict=True)
    images = smooth_images(2, size, model.in_chans)
    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        theirs = reference(tensor).numpy()
        exact = reference.double()(tensor.double()).numpy()
    try:
        return relative_error(model(images), exact), relative_error(theirs, exact)
    except NotFiniteError as error:
        command_line.fail(f"{error}: the weights are damaged. Nothing was written")


def save(path: Path, state: State, name: str) -> None:
    """Writes .safetensors, or a torch file for .pth, .pt and .bin."""
    from jaxvision.files import replace_file

    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        replace_file(path, lambda file: save_file(state, file, metadata={"format": "pt", "model": name}))
        return
    import torch

    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    replace_file(path, lambda file: torch.save(tensors, file))


def source_of(args: argparse.Namespace) -> Any:
    """The weights that the command line names: a state dict, a file, or a name; they may say which model it is.

    Raises:
      UserError: it is missing, or cannot be fetched.
    """
    from jaxvision.weights import published
    from jaxvision.weights.hub import HubAccess
    from tools.shared.load_model import checksum, run_of

    if args.weights is None or published.is_name(args.weights):
        name = args.weights or (f"{args.model.partition('.')[0]}.{args.timm}" if args.timm else args.model)
        command_line.say(f"fetching {name} ...")
        found = published.find(name, HubAccess())
        command_line.say(f"{found.file}: sha256 {checksum(found.file)}")
        if args.model is None or published.is_source(args.model):
            args.model = found.spec.name
        return name
    path = Path(args.weights).expanduser()
    if path.is_dir():
        saved = run_of(path, args.model, raw=args.raw)
        args.model = args.model or saved.config["model"]["name"]
        print(f"{path}: step {saved.step}, {'raw' if args.raw else 'EMA'} weights")
        if args.image_size is None:
            args.image_size = saved.config["model"]["image_size"]
        return saved.state
    if args.model is None and path.is_file():
        command_line.fail(f"{path} does not say which model it is of: name it, MODEL or --model MODEL")
    command_line.say(f"{path}: sha256 {checksum(path)}")
    return path


def run(args: argparse.Namespace) -> int:
    """Converts, compares and writes."""
    import jax

    import jaxvision
    from jaxvision.run.console import notes

    if args.out.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        command_line.fail(f"--out {args.out}: expected a name that ends with .safetensors, .pth, .pt or .bin")
    source = source_of(args)  # which says what the model is, where it was named by a repository
    jaxvision.model_spec(args.model if args.timm is None else f"{args.model.partition('.')[0]}.{args.timm}")
    with notes(command_line.say):
        model = jaxvision.create_model(
            args.model,
            weights=source,
            num_classes=args.num_classes,
            in_chans=args.in_chans,
            image_size=args.image_size,
            key=None if args.seed is None else jax.random.key(args.seed),
        )
    state = jaxvision.to_torch(model)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(model.variables["params"]))
    print(f"{args.model}: {len(state)} tensors, {parameters / 1e6:.2f} M parameters, {model.num_classes} classes")
    compared = float64_distances(model, state)
    if compared is None:
        print("timm is not installed: logits were not compared")
    else:
        ours, theirs = compared
        print(f"logits: {ours:.1e} from float64 (relative to the largest), timm's {theirs:.1e}")
        if not ours < max(1e-4, 4 * theirs):
            command_line.fail("this difference is too large to be rounding: please report it. Nothing was written")
    save(args.out, state, args.model)
    print(f"wrote {args.out} ({args.out.stat().st_size / 2**20:.1f} MiB)")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    command_line.add_model_name(parser)
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--weights", "--checkpoint", metavar="WEIGHTS", help=command_line.WEIGHTS_HELP)
    given.add_argument("--timm", metavar="TAG", help="fetch timm's weights of this tag; without either: the default's")
    parser.add_argument("--out", type=Path, required=True, help=".safetensors, or .pth for a torch file")
    parser.add_argument(
        "--reverse", action="store_true", help="from jaxvision to timm: --weights is ours, --out theirs"
    )
    parser.add_argument("--raw", action="store_true", help="of a training run: the raw weights, not their EMA")
    parser.add_argument("--num-classes", type=int, help="by default as in the file; another number needs --seed")
    parser.add_argument("--in-chans", type=int, help="the first convolution is adapted to this")
    command_line.add_image_size(parser, None, "for ViT and Swin: position tables are resampled to it")
    parser.add_argument("--seed", type=int, help="of a fresh classifier")
    args = command_line.parse(parser, argv, model_required=False)
    if args.reverse and args.weights is None:
        parser.error("--reverse needs --weights: our .safetensors file, or a run's workdir")
    return command_line.run(run, args)


if __name__ == "__main__":
    command_line.start(main)
