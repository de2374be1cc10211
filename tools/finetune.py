"""Fine-tunes a trained network on your folder of images, with settings that its size, the model and the device suggest.

  python tools/finetune.py flowers --model convnext_tiny
  python tools/finetune.py flowers --model resnet50 --weights resnet50.safetensors --epochs 20 --workdir runs/flowers

The folder is flowers/train/CLASS/*.jpg and flowers/val/CLASS/*.jpg, or flowers/CLASS/*.jpg: then a fifth of each class
is kept for evaluation, the same in every run. Before training, the workdir gets augment.png, which shows what the
network will see. The same command resumes. Any field of configs/finetune.py can be set: --config.FIELD=VALUE.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.shared import command_line

if TYPE_CHECKING:
    from jaxvision.config import Config
    from jaxvision.train.finetune import Images

RECIPE = Path(__file__).resolve().parent.parent / "configs" / "finetune.py"


def run(args: argparse.Namespace) -> int:
    """Looks at the images, trains, and prints what can be done with the result; returns the exit status."""
    import jaxvision
    from jaxvision import main as main_lib
    from jaxvision.ops import process
    from jaxvision.train import augment_sheet, finetune
    from tools.shared.load_model import check_names

    check_names(args)
    if command_line.is_run(args.weights):
        before = main_lib.load_config(str(Path(args.weights).expanduser() / "config.json"), []).model
        args.model, args.image_size = args.model or before.name, args.image_size or before.image_size
    if (model := args.model) is None:
        command_line.fail("name a model, --model convnext_tiny, or the workdir of a run, --weights RUN")
    spec = jaxvision.model_spec(model)
    if args.weights is None and not spec.published:
        command_line.fail(f"nobody publishes weights of {model}: name some, --weights FILE or RUN")
    folder = Path(args.data).expanduser().absolute()  # the run is evaluated from other folders, too
    workdir = Path(args.workdir or Path("runs") / f"{folder.name}_{model}")
    own = {"model.weights": args.weights, "batch_size": args.batch_size, "epochs": args.epochs}
    own |= {"model.image_size": args.image_size, "optimizer.learning_rate": args.learning_rate}
    own = {name: value for name, value in own.items() if value is not None}
    recipe = ["--config", f"{RECIPE}:{model},folder={folder}", "--workdir", str(workdir), *args.fields]
    recipe += [f"--config.{name}={value}" for name, value in own.items()]
    given = {name.removeprefix("config.") for name in main_lib.split_flags(recipe)}

    def chosen(fields: dict[str, Any]) -> list[str]:
        return [f"--config.{name}={value}" for name, value in fields.items() if name not in given]

    # The recipe's warm-up may be longer than the run; its own is chosen below, with the batch.
    no_warmup = chosen({"schedule.warmup_epochs": 0})
    config, _ = main_lib.parse([*recipe, *no_warmup])  # what is wrong is said before anything is read
    finetune.check_workdir(workdir, config)
    process.prepare(deterministic=config.deterministic)
    recipe += chosen(finetune.folder_fields(folder))
    config, _ = main_lib.parse([*recipe, *no_warmup])
    images = finetune.open_images(config)
    defaults = main_lib.load_config(recipe[1], [])
    recipe += chosen(
        finetune.choose_fields(
            spec,
            images,
            finetune.this_device(),
            image_size=config.model.image_size,
            batch=config.batch_size if "batch_size" in given else None,
            epochs=config.epochs if "epochs" in given else None,
            recipe_batch=defaults.batch_size,
            recipe_rate=defaults.optimizer.learning_rate,
        )
    )
    config, _ = main_lib.parse(recipe)
    describe(images, config, args.data)
    command_line.say(
        f"batch {config.batch_size}, {config.epochs:g} epochs, learning rate {config.optimizer.learning_rate:g}, "
        f"{config.model.image_size} px; others: --batch-size, --epochs, --learning-rate, --image-size"
    )
    if not (workdir / "checkpoints").is_dir():
        if config.data.on_corrupt == "fail":
            finetune.check_images(images, functools.partial(command_line.track, "checking the images"))
        sheet = workdir / finetune.SHEET
        drawn = augment_sheet.write_sheet(config, images.train, sheet, name=model)
        command_line.say(f"wrote {sheet}: {drawn}, as the network will see them")
    status = main_lib.main(recipe)
    if status == 0:
        print("\nWhat it says of a photo, and how often it is right, with its mistakes as pictures:")
        print(f"  {command('predict')} photo.jpg --weights {shlex.quote(str(workdir))}")
        report = shlex.quote(str(workdir / "report"))
        print(f"  {command('validate')} --weights {shlex.quote(str(workdir))} --report {report}")
    return status


def command(tool: str) -> str:
    """How another tool is called from the folder that this one was called from, and in the same way."""
    if sys.argv[0] == "jaxvision finetune":  # see jaxvision/commands.py
        return f"jaxvision {tool}"
    file = Path(__file__).resolve().with_name(f"{tool}.py")
    here = Path.cwd()
    return f"python {shlex.quote(str(file.relative_to(here) if file.is_relative_to(here) else file))}"


def describe(images: Images, config: Config, folder: str) -> None:
    """Prints what was found in the folder."""
    from jaxvision.data.folders import FOLD
    from jaxvision.errors import counted, listed

    names, fold = images.train.class_names, config.data.fold
    kept = {"": config.data.eval_split, FOLD: "a fifth of each class"}.get(fold, f"part {fold} of each class")
    counts = f"{counted(len(images.train), 'training image')}, {len(images.evaluation)} to evaluate on ({kept})"
    command_line.say(f"{folder}: {counts}; {len(names)} classes: {listed(names, 10)}")
    if images.few:
        command_line.say(f"note: {images.few}", error_stream=True)


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    parser.add_argument("data", nargs="?", metavar="FOLDER", help="of the images")
    parser.add_argument("--data", "--data-dir", dest="data_option", metavar="FOLDER", help="the same, as an option")
    parser.add_argument("--model", help=command_line.MODEL_HELP + "; not needed where WEIGHTS are a run")
    parser.add_argument("--weights", metavar="WEIGHTS", help=command_line.WEIGHTS_HELP)
    parser.add_argument("--workdir", help="of the run (runs/FOLDER_MODEL)")
    parser.add_argument("--epochs", type=float, help="length of the run (30, on a CPU 10; more for a few images)")
    command_line.add_batch_size(parser, None, "images per step (as many as memory and data allow, up to 128)")
    parser.add_argument("--learning-rate", "--lr", metavar="RATE", type=float, help="its peak (5e-4 at batch 128)")
    command_line.add_image_size(parser, None, "of a side (as the weights were trained)")
    args, args.fields = parser.parse_known_args(argv)
    if wrong := [text for text in args.fields if not text.startswith("--config.") or "=" not in text]:
        parser.error(f"unknown arguments: {' '.join(wrong)}; fields of the config are --config.FIELD=VALUE")
    if any(text.startswith("--config.distributed.") for text in args.fields):
        parser.error("this tool is for one process; several start python -m jaxvision.main with configs/finetune.py")
    if any(text.startswith(("--config.data.name=", "--config.data.dir=")) for text in args.fields):
        parser.error("the images are those of FOLDER: leave out --config.data.name and --config.data.dir")
    if (args.data is None) == (args.data_option is None):
        parser.error("name one folder of images: FOLDER or --data FOLDER")
    args.data = args.data or args.data_option
    return command_line.run(run, args)


if __name__ == "__main__":
    command_line.start(main)
