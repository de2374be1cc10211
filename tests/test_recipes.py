"""Each recipe's config: its values, its arguments, and a few steps of it on the digits."""

import subprocess
import sys

import cli
import jax
import numpy as np
import pytest

import jaxvision
from jaxvision import config as config_lib
from jaxvision.errors import UserError
from jaxvision.main import load_config
from jaxvision.models.registry import build_module
from jaxvision.models.variables import flat_shapes
from jaxvision.optim import optimizers
from jaxvision.run.weights import read_run
from jaxvision.train import build, inputs, sharding

RECIPES = {
    "resnet_rs50": ["", "digits", "101", "152", "200", "270", "350", "420,folder=/data/x"],
    "resnet50_a1": ["", "hard", "digits", "folder=/data/x"],
    "resnet50_a2": ["", "soft", "digits"],
    "resnet50_a3": ["", "soft,digits"],
    "resnet50d_a1": ["", "digits"],
    "resnet50_tv2": ["", "digits"],
    "seresnext50": ["", "digits"],
    "resnest50": ["", "101", "200", "269", "101,digits"],
    "efficientnet_b0": ["", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b1,digits"],
    "efficientnetv2_b0": ["", "b1", "b2", "b3", "s", "m", "l", "l,digits"],
    "convnext_t": ["", "s", "b", "s,digits"],
    "swin_t": ["", "s", "b,digits"],
    "deit_s": ["", "ti", "b", "ti,folder=/data/x"],
    "deit3_s": ["", "b", "b,digits"],
    "deit3_finetune": ["", "l", "s384", "b384", "l384", "s384,digits"],
    "convnext_finetune": ["", "l", "b,digits"],
    "vit_s16": ["", "300", "digits"],
    "finetune": ["convnext_tiny,folder=/data/x", "resnet10t,digits", "deit3_small_patch16_224,tfds=cifar10"],
}


def case(name, argument):
    """Tracing a recipe's other models takes seconds each: they belong to the zoo."""
    other = name != "finetune" and argument.split(",")[0].split("=")[0] not in ("", "digits", "folder")
    return pytest.param(name, argument, marks=pytest.mark.zoo if other else [])


CASES = [case(name, argument) for name, arguments in RECIPES.items() for argument in arguments]


def load(name, argument=""):
    return load_config(f"{cli.ROOT}/configs/{name}.py" + (f":{argument}" if argument else ""), [])


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_every_config_is_valid_and_its_rules_fit_its_model(name, argument):
    c = load(name, argument)
    if name == "finetune":  # the published weights
        model = argument.partition(",")[0]
        assert c.model.weights == jaxvision.list_models(model, pretrained=True)[0]
    elif "finetune" in name:
        with pytest.raises(UserError, match=r"config\.model\.weights has to be given: --config\.model\.weights="):
            config_lib.resolve(c)
        c.model.weights = "x"
    c = config_lib.resolve(c)
    shapes = flat_shapes(build_module(c.model.name, image_size=c.model.image_size), 3)
    params = {key: np.empty((0,) * len(shape)) for key, shape in shapes.items()}
    for rules in (c.optimizer.decay_rules, c.optimizer.rate_rules, c.optimizer.clip_rules):
        optimizers.match_rules(params, rules)
    if "digits" in argument:
        assert c.data.name == "digits" and c.batch_size == 64
    if "folder" in argument:
        assert (c.data.name, c.data.dir) == ("folder", "/data/x")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_other_data(name):
    """The model and its training stay; data and splits change, also where ImageNet's is a part."""
    model = "resnet50," if name == "finetune" else ""
    for argument, expected in {
        "folder=/data/x": ("folder", "/data/x", "train", "validation"),
        "tfds=imagenette/320px-v2:1.0.0": ("imagenette/320px-v2:1.0.0", "~/tensorflow_datasets", "train", "test"),
    }.items():
        c = load(name, model + argument)
        assert (c.data.name, c.data.dir, c.data.train_split, c.data.eval_split) == expected
        if name != "finetune":
            own = config_lib.flatten(load(name))
            changed = {field for field, value in config_lib.flatten(c).items() if value != own[field]}
            assert changed <= {"data.name", "data.dir", "data.train_split", "data.eval_split"}
    for argument in ("folder=", "tfds=", "tfd=x"):
        with pytest.raises(UserError, match=r"folder=PATH.*tfds=NAME"):
            load(name, model + argument)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "finetune"])
def test_every_recipe_states_its_devices_and_the_digits_none(name):
    c, digits = load(name), load(name, "digits")
    c.model.weights = digits.model.weights = ""
    c, digits = config_lib.resolve(c), config_lib.resolve(digits)
    assert c.replicas > 1 and c.batch_size % c.replicas == 0
    assert digits.replicas == 0 and digits.grouped() == ()


def test_decay_scopes_are_the_papers():
    def decayed(name, argument=""):
        c = load(name, argument)
        shapes = flat_shapes(build_module(c.model.name), 3)
        params = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
        values = optimizers.match_rules(params, c.optimizer.decay_rules)
        return {key for key, value in values.items() if value}, set(shapes)

    for name in ("convnext_t", "swin_t", "deit_s", "deit3_s", "resnet50_a2", "vit_s16", "efficientnetv2_b0"):
        chosen, everything = decayed(name)
        assert not any(key.endswith((".bias", "gamma", "_token", "pos_embed", "bias_table")) for key in chosen)
        assert {key for key in everything if key.endswith("conv2.weight") or "fc1.weight" in key} <= chosen
    for name in ("resnet50_tv2", "efficientnet_b0"):  # biases are decayed, norms are not
        chosen, everything = decayed(name)
        assert not any(".bn" in key or key.startswith("bn") for key in chosen)
        assert {"fc.bias", "classifier.bias"} & chosen
    assert any(key.endswith("se.conv_reduce.bias") for key in chosen)
    chosen, everything = decayed("resnet50_tv2")
    norms = {k for k in everything if ".bn" in k or k.startswith("bn") or "downsample.1" in k}
    assert everything - chosen == norms and "fc.bias" in chosen


def test_unknown_variants_are_named():
    with pytest.raises(UserError, match=r'unknown variant .digit. of convnext_t. Did you mean "digits"'):
        load("convnext_t", "digit")
    with pytest.raises(UserError, match="Known: s, b, digits, folder=PATH, tfds=NAME"):
        load("deit3_s", "x4")
    for argument in ("", "resnet50", "resnet50,folder=", ",digits"):
        with pytest.raises(UserError, match="name a model and data"):
            load("finetune", argument)
    with pytest.raises(UserError, match=r'Did you mean "resnet50"'):
        load("finetune", "resnet5,digits")


# Recipes of every optimizer, and most policies, with a small model, mostly of their family; several share a process,
# which takes seconds to start.
SMALL = [
    {"resnet50_tv2": "resnet10t", "seresnext50": "seresnet18"},
    {"convnext_t": "convnext_atto", "vit_s16": "simple_vit_tiny_patch16_224"},
    {"deit3_s:b": "deit3_small_patch16_224", "efficientnet_b0": "resnet10t"},
    {"efficientnetv2_b0:m": "resnet10t"},
]
# The others differ from these in values; `make parity-steps` runs them with their own models.
TRACED = {
    "resnet_rs50": "resnet10t", "resnet50_a1": "resnet10t", "resnet50_a2": "resnet10t", "resnet50_a3": "resnet10t",
    "resnet50d_a1": "resnet18d", "resnest50": "resnest14d", "swin_t": "swin_tiny_patch4_window7_224",
    "deit_s": "deit_tiny_patch16_224", "deit3_finetune": "deit3_small_patch16_224",
    "convnext_finetune": "convnext_atto",
}  # fmt: skip


def command(config, model, workdir, **fields):
    flags = {"model.name": model, "steps": 3, "eval.every_epochs": 100.0, "checkpoint.every_steps": 0} | fields
    arguments = [f"--config.{key}={value}" for key, value in flags.items()]
    return ["--config", config, "--workdir", str(workdir), *arguments]


def run_all(commands):
    """Every command in one process of its own; each has to end with status 0."""
    code = f"from jaxvision.main import main\nfor argv in {commands!r}:\n    assert main(argv) == 0, argv"
    result = subprocess.run(
        [sys.executable, "-c", code], env=cli.environment(quick=True), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert result.stdout.count("finished at step") == len(commands), result.stdout
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACED)
def test_the_other_recipes_programs_can_be_built(name, digits_dir):
    """Augmentation and train step on the digits, traced alone: compiling is most of a short run."""
    c = load(name, "digits")
    c.data.dir, c.model.name, c.model.weights, c.steps = str(digits_dir), TRACED[name], "", 3
    c = config_lib.resolve(c)
    source, mesh = inputs.open_train(c), sharding.make_mesh()
    length, network = build.lengths(c, len(source)), build.build_network(c, source)
    state, optimizer = build.initial_state(c, network, mesh)
    batch = jax.ShapeDtypeStruct((c.batch_size, c.model.image_size, c.model.image_size, 3), np.uint8)
    augment = build.augment_program(c, network, mesh)
    images, labels = jax.eval_shape(augment, batch, np.int32(0)), jax.ShapeDtypeStruct((c.batch_size,), np.int32)
    step = build.train_program(c, network, optimizer, length, mesh)
    after, report = jax.eval_shape(step, state, images, labels, None)
    kinds = [jax.tree.map(lambda a: (a.shape, a.dtype), tree) for tree in (state, after)]
    assert kinds[0] == kinds[1]
    assert {"metrics", "learning_rate", "bad_total", "bad_in_row"} <= set(report)


@pytest.mark.program
@pytest.mark.parametrize("group", SMALL, ids=lambda group: "+".join(group))
def test_recipes_train_a_few_steps_on_the_digits(group, tmp_path, digits_dir):
    commands = []
    for i, (name, model) in enumerate(group.items()):
        file, _, variant = name.partition(":")
        fields = {"data.dir": digits_dir}
        if "v2" in name:  # one of the four stages: a run of several is in test_regularisation.py
            fields |= {"progressive.image_size": (36,), "progressive.magnitude": (9.0,), "progressive.mix": (0.2,)}
        argument = f"{variant},digits" if variant else "digits"
        commands.append(command(f"configs/{file}.py:{argument}", model, tmp_path / str(i), **fields))
    run_all(commands)


@pytest.mark.program
def test_recipes_and_fine_tuning_train_on_a_folder(tmp_path, digits_dir):
    """Photos in PATH/train/CLASS and PATH/val/CLASS, with their classes in an order of their own.

    Fine-tuning goes on with the classifier of the same classes, and starts a fresh one for others.
    """
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for name in ("cat", "dog", "owl"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (48, 56, 3), np.uint8)).save(folder / f"{i}.jpg")
    small = {"batch_size": 8, "model.image_size": 32, "eval.image_size": 0, "batch_norm": "global"}
    (tmp_path / "classes.txt").write_text("owl\ncat\nfox\ndog\n")
    small["data.class_map"] = tmp_path / "classes.txt"
    photos = f"folder={tmp_path / 'photos'}"
    run_all(
        [
            command(f"configs/resnet50_a3.py:{photos}", "resnet10t", tmp_path / "a3", **small),
            command(
                f"configs/finetune.py:resnet10t,{photos}", "resnet10t", tmp_path / "tuned",
                **small, **{"model.weights": tmp_path / "a3", "optimizer.freeze": r"(?!fc\.).*", "seed": 1},
            ),
            command(
                "configs/finetune.py:resnet10t,digits", "resnet10t", tmp_path / "digits",
                **{"model.weights": tmp_path / "a3", "data.dir": digits_dir},
            ),
        ]
    )  # fmt: skip
    before = read_run(tmp_path / "a3", ema=True).state
    after = read_run(tmp_path / "tuned", ema=False).state
    assert before.keys() == after.keys() and after["fc.weight"].shape == (4, 512)
    moved = np.abs(after["fc.weight"] - before["fc.weight"]).max()
    assert 0 < moved < 0.1 * before["fc.weight"].std()
    for name, value in before.items():
        learned = name.startswith("fc.") or "running" in name
        assert np.array_equal(value, after[name]) != learned, name
