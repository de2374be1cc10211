"""The pages: what they link and name exists, and their tables are those of the files that they come from."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision import resources
from jaxvision.commands import COMMANDS
from tools.bench.table import summary_table

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("benchmarks/*.md"))]
RESULTS = ROOT / "benchmarks" / "results"
FOLDERS = "jaxvision|tools|configs|docs|benchmarks|tests"
# The families of README's table: a title, and the beginnings of their models' names.
FAMILIES = {
    "ResNet, -C, -D, -S, -T, SE, ECA, ResNeXt, wide": "resnet|seresne|resnext|ecaresnet|wide_resnet",
    "ResNet-RS": "resnetrs",
    "ResNeSt": "resnest",
    "EfficientNet, -Lite, also TensorFlow's": "efficientnet_|tf_efficientnet_",
    "EfficientNetV2, also TensorFlow's": "efficientnetv2|tf_efficientnetv2",
    "ConvNeXt": "convnext_",
    "ConvNeXt V2": "convnextv2",
    "Swin, Swin S3": "swin_",
    "Swin V2": "swinv2",
    "ViT": "vit",
    "DeiT, DeiT-III": "deit",
    "ViT of big_vision": "simple_vit",
}


def targets(text):
    """Where a page links to inside the repository, without the section."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target) and not target.startswith("#"):
            yield target.partition("#")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_links_and_names_exists(page):
    text = page.read_text()
    missing = [t for t in targets(text) if not (page.parent / t).exists()]
    outside = [t for t in targets(text) if not (page.parent / t).resolve().is_relative_to(ROOT)]
    named = {name.rstrip("./") for name in re.findall(rf"(?<![\w./:-])(?:{FOLDERS})/[\w./-]*", text)}
    named -= set(re.findall(r'```python title="([^"]+)"', text))  # a file that the reader is to write
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing and not outside, f"missing: {missing}; outside the repository: {outside}"


def test_commands_recipes_and_flags_of_the_pages_exist():
    sources = "".join(path.read_text() for path in (*ROOT.glob("tools/**/*.py"), ROOT / "jaxvision" / "main.py"))
    seen = set()
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for name, rest in re.findall(r"(?:^ *|`)jaxvision ([a-z][a-z-]*) ([^`#\n]*)", text, re.MULTILINE):
            assert name in COMMANDS, f"{page.name}: jaxvision {name}"
            recipe = re.search(r"--config (\w+)(?![\w/.])", rest)
            assert not recipe or recipe[1] in resources.recipes(), f"{page.name}: {rest}"
            flags = re.findall(r"(?<![\w-])--[\w-]+(?![\w.])", rest)
            unknown = [flag for flag in flags if f'"{flag}"' not in sources and flag != "--help"]
            assert not unknown, f"{page.name}: {rest}"
            seen.add(name)
    assert len(seen) > 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_names_nothing_outside_the_repository(page):
    # Absolute paths are examples of the reader's own data; "the article" would be one that nobody can open.
    absolute = [p for p in re.findall(r"(?<![\w.~)>:/*-])/[a-z]\w*/[\w./-]*", page.read_text()) if "/data/" not in p]
    assert not absolute
    assert "the article" not in page.read_text().lower() and "the issue" not in page.read_text().lower()


def test_every_result_file_is_linked_and_deleted_ones_are_marked():
    pages = [ROOT / "benchmarks" / name for name in ("README.md", "journal.md")]
    linked = {(page.parent / t).resolve() for page in pages for t in targets(page.read_text())}
    assert not [path.name for path in RESULTS.iterdir() if path not in linked]
    for page in PAGES:
        for name, mark in re.findall(r"`(\w+_20\d\d-\d\d-\d\d\.\w+)`(†?)", page.read_text()):
            assert (RESULTS / name).exists() != bool(mark), f"{page.name}: {name}"


def test_no_source_names_a_result_file_that_is_gone():
    sources = [path for folder in FOLDERS.split("|") for path in (ROOT / folder).rglob("*.py")]
    named = [
        (path.relative_to(ROOT), name)
        for path in sources
        for name in re.findall(r"\w+_20\d\d-\d\d-\d\d(?:_\w+)?\.(?:jsonl?|md|png)\b", path.read_text())
    ]
    assert not [f"{path}: {name}" for path, name in named if not (RESULTS / name).exists()]


def family_table():
    """README's table of models, from ``jaxvision/models/specs.csv`` and ``tags.csv``."""
    lines = ["| family | names | parameters, M | ImageNet top-1 % |", "|---|---|---|---|"]
    left = set(jaxvision.list_models())
    for title, beginnings in FAMILIES.items():
        # "resnet" is not the family of resnetrs50, nor "vit" that of another name that contains it.
        names = [n for n in jaxvision.list_models() if re.match(rf"(?:{beginnings})(?!rs\d)", n)]
        left -= set(names)
        specs = [jaxvision.model_spec(f"{n}.{tag}") for n in names for tag in tags(n)]
        accuracies = [s.top1 for s in specs if s.top1 is not None]
        top1 = f"{min(accuracies):.1f} to {max(accuracies):.1f}" if accuracies else "none published"
        sizes = [s.params_m for s in specs]
        lines.append(f"| {title} | {len(names)} | {min(sizes):.1f} to {max(sizes):.1f} | {top1} |")
    assert not left, f"models without a family in README.md: {sorted(left)}"
    return "\n".join(lines)


def tags(name):
    """The weight tags of a model."""
    rows = (ROOT / "jaxvision" / "models" / "tags.csv").read_text().splitlines()
    return [row.split(",")[1] for row in rows if row.startswith(f"{name},")]


def test_readme_is_short_and_its_table_of_models_is_current():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert family_table() in text, f"put this table into README.md:\n{family_table()}"
    assert f"{len(jaxvision.list_models())} models" in text
    assert f"{len(jaxvision.list_models(pretrained=True))} published weights" in text


@pytest.mark.slow
def test_readme_s_lines_of_python_run(tmp_path, monkeypatch):
    """With a small model of a folder instead of the published one, and two small images."""
    small = jaxvision.create_model("resnet10t", key=jax.random.key(0))
    small = small.replace(spec=dataclasses.replace(small.spec, input_size=64))
    jaxvision.save_pretrained(small, tmp_path)
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("cat.jpg", "dog.png")):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (70, 80, 3), np.uint8)).save(name)
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
    assert '"resnet50.a1_in1k", pretrained=True' in code
    names = {"labels": jnp.arange(2)}
    names["batches"] = ((names["images"], names["labels"]) for _ in range(2))  # of the images that the code reads
    exec(code.replace('"resnet50.a1_in1k"', f'"local-dir:{tmp_path}"'), names)
    assert (
        names["images"].shape == (2, 64, 64, 3)
        and names["logits"].shape == (2, 1000)
        and names["pooled"].shape == (2, 512)
    )
    assert "fc.weight" in names["state_dict"]
    state, values = (names["model"], names["optimizer_state"]), [float(names["value"])]  # after two steps
    for i in range(12):
        *state, value = names["step"](*state, names["images"], names["labels"], jax.random.key(i))
        values.append(float(value))
    assert values[-1] < values[0] / 3, values


@pytest.mark.slow
def test_the_training_loops_of_the_docs_learn():
    """The loop, the same on eight devices, and that of NNX."""
    loop, mesh, nnx = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), re.DOTALL)
    images = jax.random.normal(jax.random.key(1), (8, 32, 32, 3))
    names = {"images": images, "labels": jnp.arange(8), "steps": 8}
    exec(loop.replace("resnet50", "resnet10t"), names)
    before = jaxvision.create_model("resnet10t", num_classes=10, drop_path_rate=0.1, key=jax.random.key(0)).variables
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), names["model"].variables, before)
    assert all(jax.tree.leaves(changed))
    first = names["value"]
    assert first < 1 and np.argmax(names["logits"], -1).shape == (8,)
    exec(
        mesh + "model, optimizer_state, value = step(model, optimizer_state, images, labels, jax.random.key(9))", names
    )
    assert names["value"] < first and len(names["value"].devices()) == 8
    one = jax.device_put((names["model"], names["images"], names["labels"]), jax.devices()[0])
    names |= dict(zip(("model", "images", "labels"), one, strict=True))
    exec(nnx, names)
    assert names["nnx_value"] < first


def test_the_table_of_speeds_is_that_of_its_file():
    newest = max(RESULTS.glob("bench_run_*.json"), key=lambda path: path.stem[-10:])
    text = (ROOT / "benchmarks" / "README.md").read_text()
    table = summary_table(json.loads(newest.read_text()))
    assert table in text and newest.name in text, f"put this table into benchmarks/README.md:\n{table}"
    for page in PAGES:
        assert not re.search(r"bench_run_\w+_\d{4}-\d\d-\d\d", page.read_text().replace(newest.stem, "")), page


def test_pictures_are_small():
    pictures = list((ROOT / "docs" / "images").glob("*.png"))
    assert pictures and all(path.stat().st_size < 200_000 for path in pictures)
