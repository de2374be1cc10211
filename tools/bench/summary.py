"""What the table and plots of ``make bench`` show of a measured row: speeds, ratios with intervals, memory, top-1."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Any

from tools.bench.rounds import Row


def interval(a: Sequence[float], b: Sequence[float], count: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of median(b) / median(a)."""
    rng = random.Random(0)
    ratios = sorted(
        statistics.median(rng.choices(b, k=len(b))) / statistics.median(rng.choices(a, k=len(a))) for _ in range(count)
    )
    return ratios[int(0.025 * count)], ratios[int(0.975 * count)]


def summarise(row: Row, rates: dict[str, Any]) -> dict[str, Any]:
    """What the table and the plots show: images per second, ratios, memory, shares of the device's rates."""
    spec = weights_of(row.model)
    speed = {
        key: row.batch / statistics.median(v["seconds_per_call"])
        for key, v in row.variants.items()
        if v.get("seconds_per_call")
    }
    result: dict[str, Any] = {
        "model": row.model, "mode": row.mode, "batch": row.batch, "size": row.size, "dtype": row.dtype,
        "top1": top1_at(spec, row.size), "images_per_s": speed,
        "errors": {key: v["error"] for key, v in row.variants.items() if "error" in v},
    }  # fmt: skip
    best = {
        side: max((key for key in speed if key.startswith(side)), key=speed.get, default=None)
        for side in ("jaxvision", "timm")
    }
    default = {
        side: next((key for key in row.variants if key.startswith(f"{side} {name}")), "")
        for side, name in (("jaxvision", "plain"), ("timm", "eager"))
    }
    for name, pair in (("best", best), ("default", default)):
        if all(key in speed for key in pair.values()):
            ours, theirs = (row.variants[key]["seconds_per_call"] for key in pair.values())
            ratio = statistics.median(theirs) / statistics.median(ours)
            result[name] = {"ratio": ratio, "interval": interval(ours, theirs), "pair": list(pair.values())}
    for side, key in best.items():
        if key:
            memory, compiled = row.variants[key]["memory"] or {}, row.variants[key]["compile_s"]
            peak = memory.get("device_peak") or memory.get("host_peak")
            result[side] = {"variant": key.partition(" ")[2], "memory": peak, "compile_s": compiled}
    ours = row.variants.get(best["jaxvision"] or "", {})
    if ours.get("bytes") and ours.get("seconds_per_call"):
        per_second = 1 / statistics.median(ours["seconds_per_call"])
        published = 2e9 * spec.gmacs * (row.size / spec.gmacs_at) ** 2
        passes = 3 if row.mode == "train" else 1
        result["roofline"] = {
            "flops_per_image": ours["flops"] and ours["flops"] / row.batch, "published_flops": published,
            "bytes_per_image": ours["bytes"] / row.batch,
            "share_of_products": passes * published * row.batch * per_second / rates["flops_per_s"],
            "share_of_copies": ours["bytes"] * per_second / rates["bytes_per_s"],
        }  # fmt: skip
    return result


def weights_of(model: str) -> Any:
    """The spec of the comparison's weights, ImageNet-1k only, where the default ones are others."""
    tags = {
        "convnext_tiny": "fb_in1k", "swin_tiny_patch4_window7_224": "ms_in1k", "resnet50": "a1_in1k",
        "tf_efficientnet_b0": "aa_in1k",
    }  # fmt: skip
    from jaxvision import model_spec

    return model_spec(f"{model}.{tags[model]}" if model in tags else model)


def top1_at(spec: Any, size: int) -> float | None:
    """Published top-1 at this size where there is one, else at the weights' own."""
    return spec.top1_at_test if spec.test_input_size == size and spec.top1_at_test else spec.top1
