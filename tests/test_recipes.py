"""Each recipe's config: its values, its arguments, and a few steps of it on the digits."""

import importlib.util

import cli
import numpy as np
import pytest

from jaxvision import config as config_lib
from jaxvision import optim, schedules
from jaxvision.errors import UserError
from jaxvision.model import build_module
from jaxvision.variables import flat_shapes, init_variables

RECIPES = {
    "resnet_rs50": ["", "digits"],
    "resnet50_rsb": ["", "a2", "a1", "a1,digits", "folder=/data/x"],
    "resnet50_tv2": ["", "digits"],
    "convnext": ["", "s", "b", "s,digits"],
    "swin": ["", "s", "b,digits"],
    "deit": ["", "ti", "b", "ti,folder=/data/x"],
}
CASES = [(name, argument) for name, arguments in RECIPES.items() for argument in arguments]


def load(name, argument=""):
    spec = importlib.util.spec_from_file_location(name, cli.ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_every_config_is_valid_and_its_rules_fit_its_model(name, argument):
    c = load(name, argument)
    config_lib.validate(c)
    params = init_variables(build_module(c.model.name, image_size=c.model.image_size), jax_key())["params"]
    for rules in (c.optimizer.decay_rules, c.optimizer.rate_rules, c.optimizer.clip_rules):
        optim.match_rules(params, rules)
    assert schedules.make_schedule(c.schedule.name, 1.0, total_steps=10, warmup=c.schedule.warmup) is not None
    if "digits" in argument:
        assert c.data.name == "digits" and c.batch_size == 64
    if "folder" in argument:
        assert (c.data.name, c.data.dir) == ("folder", "/data/x")


def jax_key():
    import jax

    return jax.random.key(0)


def test_decay_scopes_are_the_papers():
    def decayed(name, argument=""):
        c = load(name, argument)
        shapes = flat_shapes(build_module(c.model.name), 3)
        params = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
        values = optim.match_rules(params, c.optimizer.decay_rules)
        return {key for key, value in values.items() if value}, set(shapes)

    for name in ("convnext", "swin", "deit", "resnet50_rsb"):
        chosen, everything = decayed(name)
        assert not any(key.endswith((".bias", "gamma", "_token", "pos_embed", "bias_table")) for key in chosen)
        assert {key for key in everything if key.endswith("conv2.weight") or "fc1.weight" in key} <= chosen
    chosen, everything = decayed("resnet50_tv2")
    norms = {k for k in everything if ".bn" in k or k.startswith("bn") or "downsample.1" in k}
    assert everything - chosen == norms and "fc.bias" in chosen


def test_unknown_variants_are_named():
    with pytest.raises(UserError, match=r'unknown variant .digit. of convnext. Did you mean "digits"'):
        load("convnext", "digit")
    with pytest.raises(UserError, match="Known: a3, a2, a1, digits, folder=PATH"):
        load("resnet50_rsb", "a4")


SMALL = {
    "resnet50_rsb": "resnet10t",
    "resnet50_tv2": "resnet10t",
    "convnext": "convnext_atto",
    "deit": "deit_tiny_patch16_224",
}


@pytest.mark.parametrize("name", SMALL)
def test_recipes_train_a_few_steps_on_the_digits(name, tmp_path, digits_dir):
    """The recipe with a smaller relative of its model; swin's is in test_cli."""
    flags = {"model.name": SMALL[name], "data.dir": digits_dir, "steps": 3, "eval.every_epochs": 0.05}
    args = ["--config", f"configs/{name}.py:digits", "--workdir", str(tmp_path)]
    code, output = cli.run([*args, *(f"--config.{key}={value}" for key, value in flags.items())], quick=True)
    assert code == 0, output
    assert "finished at step 3" in output
