"""Table and plots of a result of ``tools/bench/main.py``: the article's scatter, and jaxvision against timm per model.

python tools/bench/plot.py benchmarks/results/bench_cpu2_2026-11-23.json --out /tmp/plots
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench.pipeline import pipeline_table
from tools.shared.model_args import replace_file

# The article's own runs: RTX 2070, PyTorch 1.10, 224 px, inference at batch 32; images per second and top-1.
ARTICLE_RUNS = {
    "tf_efficientnetv2_b0": (1691, 78.4), "tf_efficientnet_b0": (1293, 76.8), "resnet50": (621, 80.4),
    "resnet50d": (577, 80.5), "resnetrs50": (514, 79.9), "seresnext50_32x4d": (413, 81.3),
    "convnext_tiny": (386, 82.1), "resnest50d": (305, 81.0), "swin_tiny_patch4_window7_224": (301, 81.4),
}  # fmt: skip
# Its literature table: images per second, top-1.
ARTICLE_LITERATURE = {
    "ResNet-RS-50": (4900, 78.8), "ResNet-RS-101": (3000, 80.3), "ResNet-50 (timm A1)": (2000, 80.4),
    "ConvNeXt-T": (900, 82.1), "Swin-T": (900, 81.3), "EfficientNet-B0": (2900, 77.1),
}  # fmt: skip
MODES = {"infer": "inference", "train": "training"}


def bench_table(document: dict[str, Any]) -> str:
    """Markdown: what was measured, the article's figures beside it, and every error."""
    here = document["machine"]
    cores = f"{here['cpus']} CPU cores" + (f" ({here['cpu']})" if "cpu" in here else "")
    lines = [
        f"# {here['gpu'] or cores}, {document['dtype']}, {document['date']}",
        "",
        f"Command: `{document['command']}`. {document['rounds']} interleaved rounds, medians; python {here['python']}, "
        + "; ".join(sorted(set(document["versions"].values())))
        + f"; load at the start {here['load'][0]:.1f}. Matrix products {document['rates']['flops_per_s'] / 1e12:.2f} "
        f"TFLOP/s, copies {document['rates']['bytes_per_s'] / 1e9:.0f} GB/s, measured by JAX in the same run. "
        "The ratio is jaxvision's images per second over timm's: its fastest against timm's fastest, and both as they "
        'come. "keep", on either side: the process keeps the memory that it frees. The share of products counts the '
        "published FLOPs (training: three times).",
        "",
    ]
    for mode, title in MODES.items():
        rows = [s for s in document["summary"] if s["mode"] == mode]
        if not rows:
            continue
        lines += [
            f"## {title.capitalize()}",
            "",
            "| model | top-1 % | batch | jaxvision img/s | timm img/s | best/best | default/default | memory GB "
            "| compile s | products % | copies % |" + (" article img/s |" if mode == "infer" else ""),
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
        lines += ["", pipeline_table(document)]
    lines += ["", article_table()]
    return "\n".join(lines).rstrip()


def article_table() -> str:
    """The article's own tables, beside which ours stands."""
    lines = [
        "## The article's tables, for reference",
        "",
        "Its own runs: RTX 2070, PyTorch 1.10, timm's weights, 224 px, inference at batch 32. Its literature table: "
        "ImageNet-1k without extra data.",
        "",
        "| own runs | img/s | top-1 % | literature | img/s | top-1 % |",
        "|---" * 6 + "|",
    ]
    for own, read in itertools.zip_longest(ARTICLE_RUNS.items(), ARTICLE_LITERATURE.items()):
        cells = [f"{name} | {speed} | {top1}" for name, (speed, top1) in filter(None, (own, read))]
        lines.append(f"| {' | '.join(cells)} |" if len(cells) == 2 else f"| {cells[0]} | | | |")
    return "\n".join(lines)


def _line(s: dict[str, Any], document: dict[str, Any]) -> str:
    def speed(side: str) -> str:
        if side not in s:
            return "failed"
        variant = s[side]["variant"]
        return f"{s['images_per_s'][f'{side} {variant}']:.1f} ({variant})"

    def ratio(kind: str) -> str:
        if kind not in s:
            return ""
        low, high = s[kind]["interval"]
        return f"{s[kind]['ratio']:.2f} [{low:.2f}, {high:.2f}]"

    def both(key: str, scale: float, digits: int) -> str:
        values = [s[side][key] for side in ("jaxvision", "timm") if side in s and s[side].get(key) is not None]
        return " / ".join(f"{v / scale:.{digits}f}" for v in values)

    roof = s.get("roofline")
    top1 = (
        f"{s['top1']:.1f}" + ("" if document["top1"].get(s["model"]) == "published" else " (measured)")
        if s["top1"]
        else ""
    )
    shares = [f"{100 * roof[key]:.0f}" if roof else "" for key in ("share_of_products", "share_of_copies")]
    cells = [
        s["model"], top1, str(s["batch"]), speed("jaxvision"), speed("timm"), ratio("best"), ratio("default"),
        both("memory", 2**30, 2), both("compile_s", 1, 0),
        *shares,
    ]  # fmt: skip
    if s["mode"] == "infer":
        cells.append(str(ARTICLE_RUNS.get(s["model"], ("",))[0]))
    return "| " + " | ".join(cells) + " |"


def plot_all(document: dict[str, Any], stem: Path) -> list[Path]:
    """Writes ``STEM_tradeoff.png`` and ``STEM_ratio.png``; returns what was written."""
    written = []
    for name, draw in (("tradeoff", draw_tradeoff), ("ratio", draw_ratio)):
        path = stem.with_name(f"{stem.name}_{name}.png")
        replace_file(path, lambda part, draw=draw: draw(document, part))
        written.append(path)
    return written


def _figure(width: float, height: float, panels: int) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def draw_tradeoff(document: dict[str, Any], path: Path) -> None:
    """The article's picture: speed against accuracy, the bubble's area is the memory."""
    modes = [m for m in MODES if any(s["mode"] == m for s in document["summary"])]
    figure, panels = _figure(7 * len(modes), 5.2, len(modes))
    for mode, panel in zip(modes, panels, strict=True):
        rows = [s for s in document["summary"] if s["mode"] == mode and s["top1"]]
        for side, color in (("jaxvision", "tab:blue"), ("timm", "tab:orange")):
            shown = [s for s in rows if side in s]
            speeds = [s["images_per_s"][f"{side} {s[side]['variant']}"] for s in shown]
            sizes = [80 * (s[side]["memory"] or 0) / 2**30 + 15 for s in shown]
            panel.scatter(speeds, [s["top1"] for s in shown], sizes, color=color, alpha=0.55, label=side)
            if side == "jaxvision":
                for s, x in zip(shown, speeds, strict=True):
                    label = s["model"].replace("_patch4_window7_224", "").replace("_patch16_224", "")
                    panel.annotate(label, (x, s["top1"]), fontsize=8, xytext=(4, 5), textcoords="offset points")
        panel.set(xscale="log", xlabel="images per second", ylabel="ImageNet top-1 %")
        panel.set_title(f"{MODES[mode]}, {document['date']} (bubble: peak memory)")
        panel.grid(alpha=0.3, which="both")
        panel.legend(loc="lower left")
    figure.savefig(path, dpi=110, format="png")


def draw_ratio(document: dict[str, Any], path: Path) -> None:
    """jaxvision over timm per model, with the 95 % intervals."""
    modes = [m for m in MODES if any(s["mode"] == m for s in document["summary"])]
    figure, panels = _figure(7 * len(modes), 4.8, len(modes))
    for mode, panel in zip(modes, panels, strict=True):
        rows = [s for s in document["summary"] if s["mode"] == mode and "best" in s]
        places = range(len(rows))
        for offset, (kind, color) in enumerate((("best", "tab:blue"), ("default", "tab:gray"))):
            shown = [(i, s[kind]) for i, s in zip(places, rows, strict=True) if kind in s]
            values = [v["ratio"] for _, v in shown]
            errors = [
                [v["ratio"] - v["interval"][0] for _, v in shown],
                [v["interval"][1] - v["ratio"] for _, v in shown],
            ]
            panel.barh(
                [i + 0.4 * offset for i, _ in shown], values, 0.38, xerr=errors, color=color, label=f"{kind} / {kind}"
            )
        panel.axvline(1.0, color="black", linewidth=1)
        panel.set_yticks([i + 0.2 for i in places], [s["model"] for s in rows], fontsize=8)
        panel.invert_yaxis()
        panel.set(xlabel="jaxvision / timm, images per second", title=MODES[mode])
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)  # below: bars reach everywhere
        panel.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=110, format="png")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="a JSON of tools/bench/main.py")
    parser.add_argument("--out", type=Path, help="folder of the plots; default: beside the result")
    args = parser.parse_args(argv)
    try:
        document = json.loads(args.result.read_text())
        table = bench_table(document)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {args.result} is no result of tools/bench/main.py: {error}", file=sys.stderr)
        return 2
    print(table)
    for path in plot_all(document, (args.out or args.result.parent) / args.result.stem):
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
