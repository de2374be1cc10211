"""Measures top-1 and top-5 of a model's weights on a data set, with the weights' own preprocessing.

  python tools/validate.py resnet50.a1_in1k                          # the published weights, on imagenet2012
  python tools/validate.py --weights runs/rs50                      # a run, on what it evaluated itself on
  python tools/validate.py --weights runs/flowers --report report   # and where it is wrong, as pictures and tables
  python tools/validate.py convnext_tiny --weights w.pth --data-name folder --data-dir imagenette2 --split val

The preprocessing equals timm's pixel for pixel (Pillow's filters), so the accuracies do too. Classes are matched by
name, where the weights name theirs, and for ImageNet's WordNet ids, even if only some of them are there.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from tools.shared import command_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax

    from jaxvision.data.sources import Source
    from tools.shared.load_model import Loaded


def label_table(
    source: Source, num_classes: int, class_names: Sequence[str] | None, *, mapped: bool = False
) -> np.ndarray:
    """The model's class of each label of the data, int32 (classes of the data,).

    Args:
      source: of the data.
      num_classes: of the model.
      class_names: of the model, in its order, where they are known.
      mapped: whether the data's classes were put into the model's order; otherwise a note says what is taken for it.

    Raises:
      UserError: the data has classes that the model lacks, or other ones as far as can be seen.
    """
    from jaxvision.data.classes import absent_classes, class_table, imagenet_ids

    def table(classes: Sequence[str], where: str) -> np.ndarray:
        found = class_table(source.class_names, classes, where)
        if note := absent_classes(source.class_names, classes, where):
            print(f"note: {note}", file=sys.stderr)
        return found

    ids, names = imagenet_ids(), set(source.class_names)
    of_imagenet = num_classes == len(ids) and bool(names) and names <= set(ids)
    if class_names is not None and (names <= set(class_names) or not of_imagenet):
        return table(class_names, "the model")
    if of_imagenet:
        return table(ids, "ImageNet")
    if source.num_classes != num_classes:
        command_line.fail(
            f"the data has {source.num_classes} classes, the model {num_classes}, whose names are unknown: name them "
            "in the model's order, one a line, in a file: --class-map FILE"
        )
    if not mapped and list(source.class_names) != [str(i) for i in range(num_classes)]:
        print("note: the weights do not name their classes: taken to be the data's, in its order", file=sys.stderr)
    return np.arange(num_classes, dtype=np.int32)


def run(args: argparse.Namespace) -> int:
    """Evaluates and reports."""
    import jax
    import jax.numpy as jnp
    from rich.progress import Progress

    from jaxvision.data.loader import Loader, prefetch
    from jaxvision.data.plan import Plan
    from jaxvision.files import check_folder, replace_text
    from jaxvision.train import sharding
    from jaxvision.train.metrics import answers, in_top_k
    from tools.shared.load_data import open_source
    from tools.shared.load_model import check_names, load, of_run

    # The data first: weights may have to be downloaded. A run says itself on which data it was evaluated.
    check_names(args)
    if args.report:
        check_folder(args.report)
    source = None if of_run(args) else open_source(args)
    loaded = load(args)
    if source is None:
        source = open_source(args, loaded.run)
    model, settings = loaded.model, loaded.settings
    names = None if args.class_map else loaded.class_names
    table = label_table(source, model.num_classes, names, mapped=bool(args.class_map))
    mesh = sharding.make_mesh()
    batch_size = -(-args.batch_size // jax.device_count()) * jax.device_count()
    plan = Plan(len(source), batch_size, seed=0, train=False, shard=0, shards=1)
    loader = Loader(
        source, plan, settings.transform, size=settings.size, dct_method=settings.dct_method, threads=args.threads
    )
    name = f"{model.spec.name}.{model.spec.tag}" if loaded.run is None and model.spec.published else model.spec.name
    command_line.say(f"{name} ({loaded.identity}{', fused' if args.fuse else ''}, {args.dtype})")
    command_line.say(f"{len(source)} images of {args.data_name} {args.split}: {settings}")

    @jax.jit
    def step(model: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
        logits = model(settings.normalise(batch["image"], jnp.dtype(args.dtype)))
        label = jnp.asarray(table)[batch["label"]]
        counted = [in_top_k(logits, label, k) > 0 for k in (1, 5)] + [~jnp.isfinite(logits).all(-1)]
        sums = jnp.stack([jnp.sum(each & batch["mask"]) for each in counted])
        return sums, (label, *answers(logits, label), batch["mask"]) if args.report else None

    model = sharding.replicate(mesh, model)
    said: list[Any] = []  # of each image
    counts, start = np.zeros(3, np.int64), time.perf_counter()  # right in top-1, in top-5; logits that are not finite
    with Progress(disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("validating", total=len(source))
        batches = prefetch(loader.batches(0, plan.eval_steps), lambda b: sharding.put_batch(mesh, b), depth=1)
        for i, batch in enumerate(batches):
            sums, each = step(model, batch)
            counts += np.asarray(sums)
            said.append(jax.tree.map(np.asarray, each))
            seen = min((i + 1) * batch_size, len(source))
            bar.update(task, completed=seen, description=f"top-1 {100 * counts[0] / seen:.2f}")
    seconds = time.perf_counter() - start
    top1, top5 = (100 * float(right) / len(source) for right in counts[:2])
    print(f"top-1 {top1:.3f} %, top-5 {top5:.3f} % in {seconds:.1f} s ({len(source) / seconds:.1f} images/s)")
    if counts[2]:
        command_line.say(f"warning: the logits of {counts[2]} images are NaN or infinite: a NaN counts as wrong")
    spec = model.spec
    if loaded.run is None and spec.top1 is not None and args.data_name.startswith("imagenet2012"):
        print(f"published for {spec.name}.{spec.tag}: {spec.top1} at {spec.input_size} px (timm)")
    if args.report:
        write_report(args.report, source, loaded, said)
    if args.out:
        document = {
            "model": name, "weights": str(args.weights or name), "identity": loaded.identity, "fused": args.fuse,
            "dtype": args.dtype, "data": args.data_name, "split": args.split, "images": len(source),
            "preprocessing": vars(settings), "top1": top1, "top5": top5, "seconds": round(seconds, 2),
            "date": str(date.today()), "device": jax.devices()[0].device_kind, "devices": jax.device_count(),
            "python": platform.python_version(), "jax": jax.__version__,
        }  # fmt: skip
        replace_text(args.out, json.dumps(document, indent=2) + "\n")
    return 0


def write_report(folder: Path, source: Source, loaded: Loaded, said: Sequence[Any]) -> None:
    """Writes where the model is wrong, and says it in short.

    Args:
      folder: where to.
      source: of the images.
      loaded: the model.
      said: of each batch the labels, answers, their probabilities, and which rows are images.
    """
    from jaxvision.run import confusion
    from tools.shared.load_model import readable_names

    labels, answered, confidence, mask = (np.concatenate(column) for column in zip(*said, strict=True))
    answers = confusion.Answers(labels[mask], answered[mask], confidence[mask])
    own = loaded.class_descriptions or loaded.class_names
    if own is None and source.num_classes == loaded.model.num_classes:
        own = tuple(source.class_names)
    names = readable_names(own, loaded.model.num_classes)
    try:
        written = confusion.write_report(
            folder, answers, names, source.where, lambda i: loaded.settings.load(source.read(i)[0])
        )
    except OSError as error:
        command_line.fail(f"the report cannot be written to {folder}: {error.strerror}")
    matrix, classes = answers.matrix()
    for label, answer, times in confusion.confusions(matrix, 5):
        total = int(matrix[label].sum())
        command_line.say(f"  {names[classes[label]]}: {times} of {total} taken for {names[classes[answer]]}")
    command_line.say(f"wrote {folder}: {', '.join(path.name for path in written)}")


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = command_line.parser(__doc__)
    command_line.add_model_name(parser)
    command_line.add_weights_arguments(parser)
    command_line.add_data_arguments(parser, split="validation", run=True)
    command_line.add_batch_size(parser, 128)
    parser.add_argument("--threads", type=int, help="decoding threads; default: one per core")
    parser.add_argument(
        "--report", metavar="DIR", type=Path,
        help="write a confusion matrix, the accuracy of each class and the most confident mistakes",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    args = command_line.parse(parser, argv, model_required=False)
    if args.batch_size < 1:
        parser.error(f"--batch-size must be at least 1, got {args.batch_size}")
    return command_line.run(run, args)


if __name__ == "__main__":
    command_line.start(main)
