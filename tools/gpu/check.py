"""Compares one network on this device with timm's on a CPU in float64: logits, gradients; prints a line of JSON.

  python tools/gpu/check.py resnet50 --size 224

Both sides have the same trained-like weights. Errors are of norms: |ours - exact| / |exact|. timm's own errors on the
same device, in the same precision, stand beside ours: TF32 and bfloat16 round both. Gradients are of all parameters
together, with running statistics: those of four images would magnify every rounding.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from tools.parity.reference import CLASSES, nchw, random_images, torch, torch_gradients, trained_like
from tools.shared import command_line

# The largest error allowed. "highest" is float32 throughout; "default" is what JAX chooses, TF32 on an NVIDIA card.
LIMITS = {
    "logits highest": 1e-4, "logits default": 1e-2, "logits bfloat16": 5e-2, "logits compiled bfloat16": 5e-2,
    "gradients highest": 1e-3, "gradients bfloat16": 1e-1,
}  # fmt: skip


def error(actual: Any, exact: np.ndarray) -> float:
    """|actual - exact| / |exact|; infinite where a value is not finite."""
    actual = np.asarray(actual, np.float64)
    distance = float(np.linalg.norm(actual - exact) / np.linalg.norm(exact))
    return distance if np.isfinite(distance) else float("inf")


def flat(gradients: dict[str, Any]) -> np.ndarray:
    """All gradients as one vector, in the order of their names."""
    return np.concatenate([np.asarray(gradients[key], np.float64).ravel() for key in sorted(gradients)])


def timm_errors(
    reference: torch.nn.Module, x: np.ndarray, logits: np.ndarray, gradients: np.ndarray | None
) -> dict[str, float]:
    """timm's errors on this device: in float32, with TF32, and by autocast to bfloat16."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {}
    for name, tf32, low in (("highest", False, False), ("default", True, False), ("bfloat16", True, True)):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        model = copy.deepcopy(reference).float().to(device)
        images, labels = nchw(x).to(device), torch.from_numpy(np.arange(len(x)) * 3 % CLASSES).to(device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=low):
            found[f"logits {name}"] = error(model.eval()(images).float().cpu(), logits)
        if name == "default" or gradients is None:
            continue
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            torch.nn.functional.cross_entropy(model.eval()(images).float(), labels).backward()
        grads = {key: parameter.grad.float().cpu().numpy() for key, parameter in model.named_parameters()}
        found[f"gradients {name}"] = error(flat(grads), gradients)
    return found


def our_errors(
    name: str, size: int, state: dict[str, Any], x: np.ndarray, logits: np.ndarray, gradients: np.ndarray | None
) -> dict[str, float]:
    """Our errors on this device; without ``gradients`` of the logits alone."""
    import jax
    import jax.numpy as jnp

    import jaxvision
    from tools.parity.compare_models import module_gradients, timm_names

    def build(dtype: Any) -> jaxvision.Model:
        weights = {key: value.clone() for key, value in state.items()}
        return jaxvision.create_model(name, num_classes=CLASSES, image_size=size, weights=weights, dtype=dtype)

    def forward(model: jaxvision.Model) -> Callable[[jax.Array], jax.Array]:
        return jax.jit(lambda images: model(images))

    wide, low = build(jnp.float32), build(jnp.bfloat16)
    found = {}
    with jax.default_matmul_precision("highest"):
        found["logits highest"] = error(forward(wide)(x), logits)
    found["logits compiled bfloat16"] = error(jaxvision.compile(low)(x), logits)
    if gradients is None:
        return found
    with jax.default_matmul_precision("highest"):
        (grads, _), _ = module_gradients(wide.module, False, wide.variables, x)
        found["gradients highest"] = error(flat(timm_names({"params": grads})), gradients)
    found["logits default"] = error(forward(wide)(x), logits)
    found["logits bfloat16"] = error(forward(low)(x), logits)
    (grads, _), _ = module_gradients(low.module, False, low.variables, x)
    found["gradients bfloat16"] = error(flat(timm_names({"params": grads})), gradients)
    return found


def check(name: str, size: int, count: int, *, gradients: bool = True) -> dict[str, Any]:
    """The row of a network: both sides' errors, and what is wrong."""
    import jax

    began = time.perf_counter()
    torch.set_num_threads(4)
    sized = {"img_size": size} if any(part in name for part in ("vit", "deit", "swin")) else {}
    reference = trained_like(name, num_classes=CLASSES, **sized)
    state = {key: value.clone() for key, value in reference.state_dict().items()}
    x = random_images((size, size), 1, count)
    exact = copy.deepcopy(reference).double()
    with torch.no_grad():
        logits = exact.eval()(nchw(x.astype(np.float64))).numpy()
    exact_gradients = flat(torch_gradients(exact.eval(), x.astype(np.float64))[0]) if gradients else None
    ours = our_errors(name, size, state, x, logits, exact_gradients)
    theirs = timm_errors(reference, x, logits, exact_gradients)
    # Where timm's own error is as large, the weights magnify rounding and the limit says nothing.
    wrong = [key for key, limit in LIMITS.items() if key in ours and ours[key] > max(limit, 3 * theirs.get(key, 0.0))]
    return {
        "model": name, "size": size, "device": jax.devices()[0].device_kind, "jaxvision": ours, "timm": theirs,
        "wrong": wrong, "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def main() -> int:
    """Command line; the status is 1 where an error is too large."""
    parser = command_line.parser(__doc__)
    parser.add_argument("model")
    command_line.add_image_size(parser, 224, "of a side (%(default)s)")
    parser.add_argument("--count", type=int, default=4, help="images (4)")
    parser.add_argument("--logits", action="store_true", help="no gradients")
    args = parser.parse_args()
    row = check(args.model, args.image_size, args.count, gradients=not args.logits)
    print(json.dumps(row))
    return 1 if row["wrong"] else 0


if __name__ == "__main__":
    command_line.start(main)
