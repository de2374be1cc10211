"""Markdown of a result of ``tools/bench/main.py``: speed, memory and ratios per model, and every error."""

from __future__ import annotations

from typing import Any

from tools.bench.pipeline import pipeline_table

MODES = {"infer": "inference", "train": "training"}
SIDES = ("jaxvision", "timm")
# Images per second of nine of the ten models, as the comparison of benchmarks/README.md published them: RTX 2070,
# PyTorch 1.10, timm's weights, inference at 224 px and batch 32.
PUBLISHED_SPEEDS = {
    "tf_efficientnetv2_b0": 1691, "tf_efficientnet_b0": 1293, "resnet50": 621, "resnet50d": 577, "resnetrs50": 514,
    "seresnext50_32x4d": 413, "convnext_tiny": 386, "resnest50d": 305, "swin_tiny_patch4_window7_224": 301,
}  # fmt: skip


def bench_table(document: dict[str, Any]) -> str:
    """What was measured and how, one table per mode, every variant's speed, and every error."""
    here = document["machine"]
    cores = f"{here['cpus']} CPU cores" + (f" ({here['cpu']})" if "cpu" in here else "")
    rates = document["rates"]
    lines = [
        f"# {here['gpu'] or cores}, {document['dtype']}, {document['date']}",
        "",
        f"Command: `{document['command']}`. {document['rounds']} interleaved rounds, medians; python {here['python']}, "
        + "; ".join(sorted(set(document["versions"].values())))
        + f"; load at the start {here['load'][0]:.1f}. Matrix multiplication {rates['flops_per_s'] / 1e12:.2f} "
        f"TFLOP/s, copies {rates['bytes_per_s'] / 1e9:.0f} GB/s, measured by JAX in the same run.",
        "",
        "- `best / best`: jaxvision's images per second over timm's, the fastest variant of each; `default / default`: "
        "a plain `jax.jit` against timm eager. In brackets: the 95 % interval.",
        "- `keep`, on either side: the process keeps the memory that it frees.",
        "- `memory GB`, `compile s`: jaxvision / timm.",
        "- `matmul %`, `copy %`: the part of this machine's rates that the fastest variant of jaxvision reaches, "
        "counting the published FLOPs (training: three times) and the bytes of the compiled program.",
        "- `RTX 2070 img/s`: as published by the comparison that the ten models come from (see benchmarks/README.md).",
        "",
    ]
    lines += ["## Summary", "", summary_table(document), ""]
    for mode, title in MODES.items():
        rows = [s for s in document["summary"] if s["mode"] == mode]
        if not rows:
            continue
        lines += [
            f"## {title.capitalize()}",
            "",
            "| model | top-1 % | batch | jaxvision img/s | timm img/s | best / best | default / default | memory GB "
            "| compile s | matmul % | copy % |" + (" RTX 2070 img/s |" if mode == "infer" else ""),
            "|---" * (11 + (mode == "infer")) + "|",
        ]
        lines += [_line(s, document) for s in rows]
        lines += ["", "Every variant, img/s:", ""]
        for s in rows:
            speeds = "; ".join(f"{key} {value:.1f}" for key, value in s["images_per_s"].items())
            lines.append(f"- {s['model']}: {speeds}")
            lines += [f"- {s['model']} {mode}, {key}: {text}" for key, text in s["errors"].items()]
        lines.append("")
    if "pipeline" in document:
        lines.append(pipeline_table(document))
    return "\n".join(lines).rstrip()


def summary_table(document: dict[str, Any]) -> str:
    """One row a model: per mode both sides' speed, their ratio and their peak memory."""
    modes = [mode for mode in MODES if any(s["mode"] == mode for s in document["summary"])]
    titles = [f"{MODES[mode]}: {text}" for mode in modes for text in ("jaxvision img/s", "timm img/s", "ratio", "GB")]
    lines = ["| model | " + " | ".join(titles) + " |", "|---" * (1 + len(titles)) + "|"]
    found = {(s["model"], s["mode"]): s for s in document["summary"]}
    for model in dict.fromkeys(s["model"] for s in document["summary"]):
        cells = [model]
        for mode in modes:
            s = found.get((model, mode), {"errors": {}})
            speeds = [f"{_speed(s, side):.1f}" if side in s else "" for side in SIDES]
            cells += [*speeds, _ratio(s, "best"), _both(s, "memory", 2**30, 2)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _line(s: dict[str, Any], document: dict[str, Any]) -> str:
    roof = s.get("roofline")
    top1 = ""
    if s["top1"]:
        top1 = f"{s['top1']:.1f}" + ("" if document["top1"].get(s["model"]) == "published" else " (measured)")
    shares = [f"{100 * roof[key]:.0f}" if roof else "" for key in ("share_of_products", "share_of_copies")]
    speeds = [f"{_speed(s, side):.1f} ({s[side]['variant']})" if side in s else "failed" for side in SIDES]
    cells = [
        s["model"], top1, str(s["batch"]), *speeds, _ratio(s, "best"), _ratio(s, "default"),
        _both(s, "memory", 2**30, 2), _both(s, "compile_s", 1, 0), *shares,
    ]  # fmt: skip
    if s["mode"] == "infer":
        cells.append(str(PUBLISHED_SPEEDS.get(s["model"], "")))
    return "| " + " | ".join(cells) + " |"


def _speed(s: dict[str, Any], side: str) -> float:
    return s["images_per_s"][f"{side} {s[side]['variant']}"]


def _ratio(s: dict[str, Any], kind: str) -> str:
    if kind not in s:
        return ""
    low, high = s[kind]["interval"]
    return f"{s[kind]['ratio']:.2f} [{low:.2f}, {high:.2f}]"


def _both(s: dict[str, Any], key: str, scale: float, digits: int) -> str:
    values = [s[side][key] for side in SIDES if side in s and s[side].get(key) is not None]
    return " / ".join(f"{v / scale:.{digits}f}" for v in values)
