"""Makes a folder of a training run that jaxvision, timm and the Hugging Face hub open, and can upload it.

  python tools/publish.py runs/flowers --out flowers
  python tools/publish.py runs/flowers --out flowers --push-to-hub me/flowers    # log in first: hf auth login

The folder gets the weights (model.safetensors), the model, its preprocessing and class names (config.json), and a model
card with the result, the curves and the config of the run (README.md). jaxvision.create_model("local-dir:flowers")
loads it, and timm.create_model("local-dir:flowers", pretrained=True) gives the same logits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.shared import command_line

if TYPE_CHECKING:
    from jaxvision.preprocessing import Preprocessing
    from jaxvision.run.weights import SavedRun

PICTURE = "curves.png"
# Fields that say where something is on this machine.
PLACES = ("data.dir", "data.class_map", "model.weights", "teacher.weights", "distributed.coordinator")
# Evaluation settings that timm has not, and those of the same pixels but for the filter's rounding.
NEAREST = {
    "crop_mode": {"crop_first": "center"},
    "interpolation": {"tf_bicubic": "bicubic", "tf_bilinear": "bilinear", "linear": "bilinear", "area": "bilinear"},
}


def timm_settings(settings: Preprocessing) -> tuple[dict[str, str], list[str]]:
    """timm's crop mode and filter for a run's evaluation, and what differs from it, in words."""
    chosen, notes = {}, []
    for field, nearest in NEAREST.items():
        own = getattr(settings, field)
        chosen[field] = nearest.get(own, own)
        if own in nearest:
            notes.append(f"{field} {own} is written as {chosen[field]}, the nearest that timm has")
    return chosen, notes


def card(run: SavedRun, workdir: Path, notes: list[str], *, raw: bool) -> str:
    """The run's part of the model card: result, curves, config; ``notes`` say how it was evaluated in another way."""
    from jaxvision.config import Config, flatten
    from jaxvision.run.records import read_records

    records = [r for r in read_records(workdir) if r["kind"] == "eval" and r["step"] <= run.step]
    what = "raw weights" if raw else "EMA weights"
    parts = [f"Trained with jaxvision on {run.config['data']['name']}; these are the {what} of step {run.step}."]
    if records:
        last, prefix = records[-1], "" if raw else "ema_"
        rows = [f"| {name} | {last[prefix + name]:.4g} |" for name in ("top1", "top5", "loss") if prefix + name in last]
        data = run.config["data"]
        split = f"fold {data['fold']} of `{data['train_split']}`" if data["fold"] else f"`{data['eval_split']}`"
        parts.append(f"## Result\n\nOn {split}, after step {last['step']}:")
        parts.append("| measure | value |\n|---|---|\n" + "\n".join(rows))
        parts += [f"Of this result: {note}." for note in notes]
    if (workdir / PICTURE).is_file():
        parts.append(f"![Curves of the training run]({PICTURE})")
    default = flatten(json.loads(Config().to_json()))
    own = {name: value for name, value in flatten(run.config).items() if name not in PLACES}
    changed = [f"{name} = {json.dumps(value)}" for name, value in own.items() if value != default.get(name)]
    parts.append("## Recipe\n\nThe fields of jaxvision's config that differ from their defaults:")
    parts.append("```\n" + "\n".join(changed) + "\n```")
    return "\n\n".join(parts)


def run(args: argparse.Namespace) -> int:
    """Writes the folder, and uploads it where that was asked for."""
    import jaxvision
    from tools.shared.load_model import load

    loaded = load(args)
    if loaded.run is None:
        command_line.fail(f"{args.weights} is no workdir of a run")
    workdir, out = Path(args.weights).expanduser(), args.out.expanduser()
    settings, notes = timm_settings(loaded.settings)
    spec = dataclasses.replace(
        loaded.model.spec, tag="custom", input_size=loaded.settings.size, crop_pct=loaded.settings.crop_pct,
        test_input_size=None, test_crop_pct=None, top1=None, top1_at_test=None, **settings,
    )  # fmt: skip
    for note in notes:
        command_line.say(f"note: {note}")
    names = loaded.class_names
    if names is not None and len(names) != loaded.model.num_classes:
        names = None
    jaxvision.save_pretrained(
        loaded.model.replace(spec=spec), out, class_names=names, push_to_hub=args.push_to_hub,
        private=args.private,
        card=card(loaded.run, workdir, notes, raw=args.raw), pictures=[p for p in [workdir / PICTURE] if p.is_file()],
    )  # fmt: skip
    command_line.say(f'wrote {out} ({loaded.identity}); load it: jaxvision.create_model("local-dir:{out}")')
    if args.push_to_hub:
        command_line.say(f'uploaded to {args.push_to_hub}: jaxvision.create_model("hf-hub:{args.push_to_hub}")')
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    parser.add_argument("weights", metavar="RUN", help="workdir of a training run")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--raw", action="store_true", help="the raw weights, not their EMA")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="repository to upload it to")
    parser.set_defaults(model=None, image_size=None, crop_pct=None, test_size=False, dtype="float32", fuse=False)
    return command_line.run(run, command_line.parse(parser, argv))


if __name__ == "__main__":
    command_line.start(main)
