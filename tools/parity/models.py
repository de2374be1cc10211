"""Every model beside timm's, with the same random trained-like weights: ``make parity``.

    python tools/parity/models.py [PATTERN ...] [--native] [--tier core] [--out FILE.md]

For each name: the largest relative difference (largest difference over largest magnitude)
of float32 logits, of every ``features`` map, of ``embed``, and of the gradients of a loss
with respect to every parameter and to the input; of the fused model's logits; and whether
the export loads strictly into timm and comes back bit for bit.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if __name__ == "__main__":
    # Each program runs once: compile quickly. Tests set their own flags.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax
import jax.numpy as jnp
import numpy as np

import jaxvision
from jaxvision.weights.state_dict import torch_layout
from tools.parity.reference import timm, torch

FORWARD, GRADIENT = 1e-4, 1e-3  # what counts as equal
CLASSES = 11
COLUMNS = ("logits", "embed", "features", "gradients", "fused")


def trained_like(name: str, seed: int = 0, **kwargs: Any) -> torch.nn.Module:
    """A timm model whose every tensor is away from its initial value.

    Random BN statistics, scales (also layer scale and V2's response norm) and biases, position
    tables and tokens; linear layers large enough for attention to be far from uniform. Where more
    than 50 bottlenecks add up, each adds less, as after training: otherwise maps grow to 1e4 and
    float32 is no reference (timm's own ResNet-RS-420 is then 21 % off its float64, against 6e-7).
    """
    torch.manual_seed(seed)
    model = timm.create_model(name, **kwargs)
    state = model.state_dict()
    last = re.compile(r"layer\d\.\d+\.bn3\.weight")
    deep = sum(last.fullmatch(key) is not None for key in state) > 50
    with torch.no_grad():
        for key, tensor in state.items():
            if deep and last.fullmatch(key):
                tensor.uniform_(0.1, 0.4)
            elif key.endswith("running_mean"):
                tensor.normal_(0, 0.2)
            elif key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif key.endswith(("pos_embed", "_token", "relative_position_bias_table")):
                tensor.normal_(0, 0.3)
            elif key.endswith("logit_scale"):
                tensor.uniform_(1.0, 5.0)  # on both sides of its clamp, log(100)
            elif tensor.ndim == 2:
                tensor.normal_(0, 1 / math.sqrt(tensor.shape[1]))
            elif tensor.ndim == 1 and key.endswith("weight"):
                tensor.uniform_(0.5, 1.0)
            elif tensor.ndim == 1 and tensor.is_floating_point():
                tensor.normal_(0, 0.1)
    return model


def relative_error(actual: Any, expected: Any) -> float:
    """Largest difference over the largest magnitude of the expected array."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-12))


def nchw(images: np.ndarray) -> torch.Tensor:
    """Our images as torch's."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def random_images(size: tuple[int, int], seed: int, count: int = 2) -> np.ndarray:
    """(count, *size, 3) float32, standard normal."""
    return np.random.default_rng(seed).standard_normal((count, *size, 3), np.float32)


def small_size(name: str) -> tuple[int, int]:
    """A small image that still exercises paddings, odd maps and shifted windows."""
    family = type(jaxvision.model.build_module(name)).__name__
    return {"Swin": (64, 64), "ViT": (64, 64), "ConvNeXt": (72, 72)}.get(family, (75, 75))


def timm_size(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """timm's argument for an image size, where the model needs one."""
    return {"img_size": size} if jaxvision.model.build_module(name, image_size=size).__dict__.get("image_size") else {}


def timm_maps(reference: torch.nn.Module, x: torch.Tensor, count: int) -> list[np.ndarray]:
    """timm's last ``count`` intermediate maps, NHWC."""
    maps = reference.forward_intermediates(x, intermediates_only=True)
    return [m.permute(0, 2, 3, 1).numpy() for m in maps[-count:]]


@functools.partial(jax.jit, static_argnums=0)
def module_outputs(module: Any, variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Logits, embedding and maps in one program: XLA computes the common part once."""
    logits, embed, maps = (module.apply(variables, x, output=output) for output in ("logits", "embed", "features"))
    return logits, embed, maps


def forward_errors(reference: torch.nn.Module, model: jaxvision.Model, x: np.ndarray) -> dict[str, float]:
    """Errors of logits, embed, the worst map, and the fused model's logits, in evaluation mode."""
    reference.eval()
    tx = nchw(x)
    with torch.no_grad():
        logits = reference(tx).numpy()
        pooled = reference.forward_head(reference.forward_features(tx), pre_logits=True).numpy()
        ours, embed, maps = module_outputs(model.module, model.variables, x)
        expected = timm_maps(reference, tx, len(maps))
    errors = {
        "logits": relative_error(ours, logits),
        "embed": relative_error(embed, pooled),
        "features": max(relative_error(a, b) for a, b in zip(maps, expected, strict=True)),
    }
    if model.variables["batch_stats"]:
        errors["fused"] = relative_error(jaxvision.fuse(model)(x), logits)
    return errors


def torch_gradients(reference: torch.nn.Module, x: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Gradients of a cross-entropy by timm's names, and of the images (NHWC)."""
    reference.zero_grad()
    tx = nchw(x).requires_grad_(True)
    labels = torch.from_numpy(np.arange(len(x)) * 3 % CLASSES)
    torch.nn.functional.cross_entropy(reference(tx), labels).backward()
    grads = {key: parameter.grad.numpy() for key, parameter in reference.named_parameters()}
    return grads, tx.grad.permute(0, 2, 3, 1).numpy()


@functools.partial(jax.jit, static_argnums=(0, 1))
def module_gradients(module: Any, train: bool, variables: Any, x: jax.Array) -> Any:
    """((parameter gradients, image gradient), updated statistics) of the same loss."""
    labels = np.eye(CLASSES, dtype=x.dtype)[np.arange(len(x)) * 3 % CLASSES]

    def loss(params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        logits, updated = module.apply({**variables, "params": params}, x, train=train, mutable=["batch_stats"])
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * labels, 1)), updated

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], x)


def timm_names(tree: Any) -> dict[str, np.ndarray]:
    """A variables tree's leaves under timm's names and layouts."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {".".join(entry.key for entry in path[1:]): torch_layout(np.asarray(leaf)) for path, leaf in flat}


def gradient_error(
    reference: torch.nn.Module, model: jaxvision.Model, size: tuple[int, int], enough: float = GRADIENT, tries: int = 8
) -> float:
    """The worst error over all parameters and the input, with running statistics, in float32.

    An activation within rounding of a ReLU's kink may fall to the other side, and change gradients
    by a percent, in either framework (ResNeSt-50 at 224 px: timm's float32 is then 2e-3 off its
    float64); a wrong formula would be wrong on every input. So each tensor's best of up to eight
    inputs counts, against timm in float32 and, where that is not enough, in float64.
    """
    reference.eval()
    best: dict[str, float] = {}
    for seed in range(tries):
        x = random_images(size, seed)
        (grads, ours_dx), _ = module_gradients(model.module, False, model.variables, x)
        ours = timm_names({"params": grads}) | {"input": ours_dx}
        for wide in (False, True):
            reference = reference.double() if wide else reference.float()
            expected, dx = torch_gradients(reference, x.astype(np.float64) if wide else x)
            expected = expected | {"input": dx}
            assert set(ours) == set(expected)
            errors = {key: relative_error(ours[key], gradient) for key, gradient in expected.items()}
            best = {key: min(error, best.get(key, math.inf)) for key, error in errors.items()}
            if max(best.values()) < enough:
                reference.float()
                return max(best.values())
    reference.float()
    return max(best.values())


def round_trip(reference: torch.nn.Module, model: jaxvision.Model) -> bool:
    """Whether the export loads strictly into timm and, imported again, gives the same bits."""
    exported = jaxvision.to_torch(model)
    reference.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in exported.items()}, strict=True)
    again = jaxvision.load_weights(model, reference.state_dict())
    leaves = zip(jax.tree.leaves(again.variables), jax.tree.leaves(model.variables), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def compare(name: str, size: tuple[int, int], *, gradients: bool = True) -> dict[str, Any]:
    """One row of the table."""
    start = time.perf_counter()
    reference = trained_like(name, num_classes=CLASSES, **timm_size(name, size))
    state = {k: v.clone() for k, v in reference.state_dict().items()}
    model = jaxvision.create_model(name, num_classes=CLASSES, image_size=size, weights=state)
    row = {"name": name, "size": f"{size[0]}x{size[1]}", **compare_pair(reference, model, size, gradients=gradients)}
    return row | {"seconds": round(time.perf_counter() - start, 1)}


def compare_pair(
    reference: torch.nn.Module, model: jaxvision.Model, size: tuple[int, int], *, gradients: bool = True
) -> dict[str, Any]:
    """The errors of a model with the reference's weights, and whether they count as equal."""
    row: dict[str, Any] = forward_errors(reference, model, random_images(size, 1))
    if gradients:
        row["gradients"] = gradient_error(reference, model, size)
    row["round_trip"] = round_trip(reference, model)
    limits = {"logits": FORWARD, "embed": FORWARD, "features": FORWARD, "fused": FORWARD, "gradients": GRADIENT}
    row["equal"] = row["round_trip"] and all(row[key] < limit for key, limit in limits.items() if key in row)
    return row


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown."""
    head = ["model", "input", *COLUMNS, "export and back", "equal"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['name']} | {row['size']} | {row['error']} |" + " |" * (len(head) - 3))
            continue
        figures = [f"{row[column]:.1e}" if column in row else "" for column in COLUMNS]
        words = ["bit-exact" if row["round_trip"] else "DIFFERS", "yes" if row["equal"] else "NO"]
        lines.append("| " + " | ".join([row["name"], row["size"], *figures, *words]) + " |")
    return "\n".join(lines)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], help="model names, with shell wildcards; default: all")
    parser.add_argument("--native", action="store_true", help="at each model's own input size, not a small one")
    parser.add_argument("--no-gradients", action="store_true", help="forward only")
    parser.add_argument("--out", type=Path, help="write the table here, and the rows beside it as .json")
    args = parser.parse_args()
    names = list(dict.fromkeys(name for pattern in args.patterns for name in jaxvision.list_models(pattern)))
    names = [name for name in names if timm.is_model(name)]  # big_vision's plain ViT has no counterpart
    if not names:
        parser.error(f"no model matches {' '.join(args.patterns)}; jaxvision.list_models() names them")
    rows = []
    for i, name in enumerate(names):
        pixels = jaxvision.model_spec(name).input_size
        size = (pixels, pixels) if args.native else small_size(name)
        try:
            row = compare(name, size, gradients=not args.no_gradients)
        except Exception as error:  # one model must not end the others' check
            row = {"name": name, "size": f"{size[0]}x{size[1]}", "error": f"{type(error).__name__}: {error}"[:300]}
            row["equal"] = False
        rows.append(row)
        figures = " ".join(f"{column} {row[column]:.1e}" for column in COLUMNS if column in row)
        verdict = "equal" if row["equal"] else f"NOT EQUAL {row.get('error', '')}"
        print(f"[{i + 1}/{len(names)}] {name} {row['size']}: {figures} {verdict} ({row.get('seconds')} s)", flush=True)
        jax.clear_caches()
    different = [row["name"] for row in rows if not row["equal"]]
    print(table(rows))
    print(f"{len(rows) - len(different)} of {len(rows)} equal", f"; not: {', '.join(different)}" if different else "")
    if args.out:
        versions = f"python {platform.python_version()}, jax {jax.__version__}, "
        versions += f"torch {torch.__version__}, timm {timm.__version__}"
        title = (
            f"# Parity with timm, {date.today()}\n\nRandom trained-like weights, float32, {versions}, "
            f"{jax.default_backend()}. Largest relative differences; equal means below {FORWARD:g} forward and "
            f"{GRADIENT:g} in every gradient. Command: `python tools/parity/models.py {' '.join(sys.argv[1:])}`\n\n"
        )
        args.out.write_text(title + table(rows) + "\n")
        args.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
