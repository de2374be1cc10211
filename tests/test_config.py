"""The typed config: fields stated once, values that make no sense refused, help and docs from the same statements."""

import dataclasses
import json
import typing
from pathlib import Path

import cli
import pytest
from ml_collections import ConfigDict

from jaxvision import config as config_lib
from jaxvision import options
from jaxvision.config import FIELDS, Config, DistributedConfig, base_config, resolve
from jaxvision.data import digits, sources
from jaxvision.data.config import DataConfig
from jaxvision.errors import UserError
from jaxvision.main import load_config, main, parse
from jaxvision.optim.optimizers import OptimizerConfig
from jaxvision.optim.rules import decay_all_but
from jaxvision.train import build

RECIPE = "configs/resnet_rs50.py:digits"


def flag(field, text):
    return ["--config", RECIPE, f"--config.{field}={text}"]


def refused(*arguments):
    with pytest.raises(UserError) as error:
        parse(arguments)
    return str(error.value)


def test_the_defaults_resolve_to_themselves():
    assert resolve(base_config()) == Config()
    assert json.loads(Config().to_json()) == json.loads(base_config().to_json())
    assert set(config_lib.flatten(base_config())) == set(FIELDS)


def test_the_resolved_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().optimizer.learning_rate = 1.0


def test_every_field_states_type_meaning_and_a_default_it_allows():
    for name, field in FIELDS.items():
        assert field.option.meaning and "\n" not in field.option.meaning, name
        assert field.option.meaning[0] == field.option.meaning[0].strip() and field.option.meaning[-1] != ".", name
        assert options.checked(field.default, field.type, field.option) == (field.default, None), name
        assert options.type_text(field.type)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e39"])
@pytest.mark.parametrize("field", [name for name, field in FIELDS.items() if field.type is float])
def test_every_float_must_be_finite(field, value):
    message = refused(*flag(field, value))
    assert message.startswith(f"config.{field} = ") and "\n" not in message
    assert "must be finite, as float32 holds it" in message


@pytest.mark.parametrize("field", [name for name, field in FIELDS.items() if field.type is int])
def test_every_whole_number_is_below_the_range_of_int32(field):
    message = refused(*flag(field, 10**20))
    assert message == f"config.{field} = {10**20}: must be at most 2147483647"


@pytest.mark.parametrize("value", ["1.5", "abc", "(1,2)"])
@pytest.mark.parametrize("field", [name for name, field in FIELDS.items() if field.type is int])
def test_whole_numbers_take_nothing_else(field, value):
    assert refused(*flag(field, value)) == f"config.{field} = {value!r}: expected a whole number"


TUPLES = [name for name, field in FIELDS.items() if typing.get_origin(field.type) is tuple]


@pytest.mark.parametrize(
    "value", ["('a','b')", "(a,b)", "((1,2),(3,4))", "(1,'a')", "(True,False)", "(1e999,2.0)", "((a"]
)
@pytest.mark.parametrize("field", TUPLES)
def test_tuples_refuse_what_is_not_their_type(field, value):
    message = refused(*flag(field, value))
    assert message.startswith(f"config.{field} = ") and ("expected" in message or "finite" in message)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("accumulate", "0", "must be between 1 and"),
        ("epochs", "0", "must be above 0"),
        ("epochs", "1e7", "at most 1000000"),
        ("steps", "-1", "must be between 0 and 2147483647"),
        ("watchdog_seconds", "1e9", "must be between 0 and 31536000"),
        ("log_every", "0", "must be between 1 and 2147483647"),
        ("eval.batch_size", "2000000", "must be between 0 and 1048576"),
        ("eval.every_epochs", "0", "must be above 0"),
        ("model.image_size", "31", "must be between 32 and 4096"),
        ("model.drop_rate", "1", "must be at least 0 and below 1"),
        ("data.crop_area", "(0.9,0.1)", "expected (low, high) with low <= high"),
        ("data.crop_area", "(0.0,1.0)", "each number must be above 0 and at most 1"),
        ("data.crop_area", "(0.5,1.5)", "each number must be above 0 and at most 1"),
        ("data.crop_area", "(0.5,)", "expected two numbers (low, high)"),
        ("data.crop_ratio", "(1.0,2.0,3.0)", "expected two numbers (low, high)"),
        ("data.crop_ratio", "(-1.0,2.0)", "each number must be between 0.001 and 1000"),
        ("augment.erase_area", "(0.5,0.1)", "expected (low, high) with low <= high"),
        ("augment.erase_aspect", "(0.0,3.0)", "each number must be between 0.001 and 1000"),
        ("data.fold", "6/5", 'expected "k/n" with 1 <= k <= n'),
        ("data.fold", "half", 'expected "k/n" with 1 <= k <= n'),
        ("data.name", "", "must name a data set"),
        ("optimizer.b1", "1", "must be at least 0 and below 1"),
        ("optimizer.b2", "1", "must be at least 0 and below 1"),
        ("optimizer.momentum", "1", "must be at least 0 and below 1"),
        ("optimizer.decay_rules", "(('a(',1.0),)", "'a(' is no regular expression"),
        ("optimizer.decay_rules", "(('.*',),)", "expected a tuple of (regular expression, number)"),
        ("optimizer.decay_rules", "('.*',1.0)", "expected a tuple of (regular expression, number)"),
        ("optimizer.rate_rules", "(('.*',-1.0),)", "each number must be between 0 and 1000000"),
        ("optimizer.rate_rules", "(('.*',1e999),)", "must be finite"),
        ("optimizer.clip_rules", "(('.*',2.0),)", "each number must be between 0 and 1"),
        ("optimizer.freeze", "(", "'(' is no regular expression"),
        ("optimizer.name", "adamv", 'expected one of sgd, adamw, rmsprop_tf, lamb, lars. Did you mean "adamw"?'),
        ("optimizer.layer_decay", "0", "must be above 0 and at most 1"),
        ("schedule.name", "cosin", 'Did you mean "cosine"?'),
        ("schedule.warmup", "unter", 'Did you mean "under"?'),
        ("schedule.boundaries", "(60,30)", "expected epochs that rise from one to the next"),
        ("schedule.boundaries", "(-1.0,30)", "each number must be above 0"),
        ("progressive.image_size", "(16,32)", "each number must be between 32 and 4096"),
        ("teacher.temperature", "0", "must be between 0.001 and 1000"),
        ("model.name", "", "unknown model."),
        ("model.name", "resnet50.a1_in1", "no weights 'a1_in1' of resnet50. Did you mean \"a1_in1k\"?"),
        ("distributed.processes", "-1", "must be between 1 and 100000"),
        ("distributed.processes", "0", "must be between 1 and 100000"),
        ("distributed.process", "1", "must be below processes = 1: count from 0"),
        ("distributed.coordinator", "node0", 'expected "host:port"'),
        ("augment.policy", "3a", "augment.policy and randaugment_layers are both set"),
        ("batch_size", "7", None),
    ],
)
def test_values_that_make_no_sense(field, value, expected):
    if expected is None:  # the table is not simply refused
        parse(flag(field, value))
        return
    message = refused(*flag(field, value))
    assert field in message and expected in message and "\n" not in message, message


def test_relations_between_fields():
    message = refused(*flag("epochs", 1))
    assert message == (
        "config.schedule.warmup_epochs = 2 is longer than the run of config.epochs = 1: "
        "lower warmup_epochs (to 0 for none) or raise epochs"
    )
    parse(flag("epochs", 2))
    parse([*flag("epochs", 1), "--config.steps=3"])  # a short trial of a recipe
    assert "config.teacher.weights is empty" in refused(*flag("teacher.name", "resnet50"))
    teacher = refused(*flag("teacher.name", "resnet5"), "--config.teacher.weights=x")
    assert teacher.startswith("config.teacher.name = 'resnet5': unknown model. Did you mean")
    policy = refused(*flag("augment.policy", "rand-x9"), "--config.augment.randaugment_layers=0")
    assert policy.startswith("config.augment.policy: ") and "\n" not in policy
    assert "not divisible by accumulate = 3" in refused(*flag("accumulate", 3))
    same = refused(*flag("progressive.mix", "(0.1,0.2)"), "--config.progressive.magnitude=(1.0,2.0,3.0)")
    assert "all need the same number of values, got magnitude: 3, mix: 2" in same


def test_all_problems_come_at_once():
    message = refused(
        "--config", RECIPE, "--config.optimizer.lr=1", "--config.batch_size=abc", "--config.epochs=inf",
        "--config.optimizer.b1=2", "--config.accumulate=3", "--config.data.crop_area=('a','b')",
    )  # fmt: skip
    lines = message.splitlines()
    starts = ("unknown field config.optimizer.lr", "config.batch_size = 'abc'", "config.epochs = inf",
              "config.data.crop_area", "config.optimizer.b1", "config.batch_size = 64 is not divisible")  # fmt: skip
    assert [any(line.startswith(start) for line in lines) for start in starts] == [True] * 6 and len(lines) == 6


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("optimizer.lr", "config.optimizer.learning_rate"),
        ("lr", "config.optimizer.learning_rate"),
        ("optimizer.wd", "config.optimizer.weight_decay"),
        ("bs", "config.batch_size"),
        ("learning_rate", "config.optimizer.learning_rate"),
        ("evl.batch_size", "config.eval.batch_size"),
        ("optimiser.momentum", "config.optimizer.momentum"),
    ],
)
def test_unknown_fields_suggest_the_one_that_is_meant(name, near):
    assert config_lib.unknown_fields([name]) == [f'unknown field config.{name}. Did you mean "{near}"?']


def test_a_section_is_no_field():
    assert "It is a section; its fields: decay, warmup" in refused(*flag("ema", 0.9))


def test_a_config_file_with_an_unknown_field_or_a_wrong_value(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from jaxvision.config import base_config\ndef get_config():\n    c = base_config()\n"
        "    c.epoch = 3\n    c.optimizer.b1 = 1.0\n    c.data.crop_area = (0.5, 'x')\n    return c\n"
    )
    message = refused("--config", str(file))
    assert 'unknown field config.epoch. Did you mean "config.epochs"?' in message
    assert "config.optimizer.b1 = 1.0" in message and "config.data.crop_area = (0.5, 'x')" in message
    file.write_text("def get_config():\n    return 3\n")
    assert "get_config must return base_config() with its changes, it returned 3" in refused("--config", str(file))


def test_values_get_their_types():
    c = base_config()
    c.data.crop_area, c.progressive.image_size, c.epochs = [0.5, 1], [32, 40], 30
    c.optimizer.decay_rules = [[".*", 1]]
    resolved = resolve(c)
    assert resolved.data.crop_area == (0.5, 1.0) and isinstance(resolved.data.crop_area[1], float)
    assert resolved.progressive.image_size == (32, 40) and isinstance(resolved.epochs, float)
    assert resolved.optimizer.decay_rules == ((".*", 1.0),)


def test_the_config_of_a_run_is_a_config_file(tmp_path):
    config, _ = parse([*flag("optimizer.b1", 0.5), "--config.schedule.boundaries=(1,2)"])
    saved = tmp_path / "run" / "config.json"
    saved.parent.mkdir()
    saved.write_text(config.to_json())
    assert parse(["--config", str(saved)]) == (config, saved.parent)
    two = DistributedConfig(coordinator="localhost:1", processes=2)
    saved.write_text(dataclasses.replace(config, distributed=two).to_json())
    assert parse(["--config", str(saved)])[0] == config  # and does not wait for the other process
    other, workdir = parse(["--config", str(saved), "--workdir", "w", "--config.seed=3"])
    assert other == dataclasses.replace(config, seed=3) and workdir == Path("w")
    older = json.loads(config.to_json())
    del older["ema"], older["optimizer"]["eps"]
    saved.write_text(json.dumps(older))
    assert parse(["--config", str(saved)])[0] == config
    for text, expected in (("{", "is not the config.json of a run"), ("[1]", "is not"), ('{"a": 1}', "field config.a")):
        saved.write_text(text)
        message = refused("--config", str(saved))
        assert expected in message and str(saved) in message


def test_a_checkpoint_keeps_the_config_as_before():
    """Nested plain values, tuples as lists: what format 1 holds."""
    document = json.loads(Config().to_json())
    assert document == json.loads(ConfigDict(dataclasses.asdict(Config())).to_json())
    assert document["optimizer"]["decay_rules"] == [[".*:[2-9]d", 1.0], [".*:[01]d", 0.0]]
    assert document["data"]["crop_area"] == [0.08, 1.0]


def test_changes_against_a_checkpoint_s_config():
    saved = json.loads(Config(seed=1, optimizer=OptimizerConfig(b1=0.5)).to_json())
    del saved["replicas"]  # written before the field existed
    saved["gone"] = 3
    changes = config_lib.changed_fields(saved, Config(optimizer=OptimizerConfig(b1=0.5)))
    assert changes == ["gone: 3 -> None", "seed: 1 -> 0"]
    changes = config_lib.changed_fields(saved, Config(seed=1, replicas=8))
    assert changes == ["gone: 3 -> None", "optimizer.b1: 0.5 -> 0.9", "replicas: 0 -> 8"]


def test_arguments_of_recipes_are_named_without_gaps():
    with pytest.raises(
        UserError, match=r"unknown variant 'cifar10' of seresnext50\. Known: digits, folder=PATH, tfds=NAME$"
    ):
        load_config("configs/seresnext50.py:cifar10", [])


def test_decay_all_but():
    rules = decay_all_but(r".*(:[01]d|pos_embed:3d)")
    matches = {name: [value for regex, value in rules if config_lib.re.fullmatch(regex, name)] for name in
               ("fc.weight:2d", "fc.bias:1d", "pos_embed:3d", "pos_embed:3dx", "a:1d.weight:2d")}  # fmt: skip
    assert matches == {"fc.weight:2d": [1.0], "fc.bias:1d": [0.0], "pos_embed:3d": [0.0], "pos_embed:3dx": [1.0],
                       "a:1d.weight:2d": [1.0]}  # fmt: skip


@pytest.mark.parametrize("split", ["train[:0]", "train[300:200]", "train[200%:300%]"])
def test_splits_without_examples(split):
    with pytest.raises(UserError, match=r"selects none of the 1437 examples of train in "):
        digits.source(split)


def test_names_of_data_sets(tmp_path):
    assert all(f'"{name}"' in FIELDS["data.name"].option.meaning for name in sources.SOURCES)
    for name, near in (("imagenet2012", ""), ("digit", 'Did you mean "digits"?'), ("imagnet2012", '"imagenet2012"?')):
        with pytest.raises(UserError) as error:
            sources.open_source(DataConfig(name=name, dir=str(tmp_path)), "train", image_size=32, seed=0)
        assert str(error.value).startswith(f"no data set {name!r} in {tmp_path}.") and near in str(error.value)
        assert near or "Did you mean" not in str(error.value)


def test_notes_on_the_length_of_a_run():
    config, _ = parse([*flag("steps", 20), "--config.batch_size=2000", "--config.schedule.warmup_epochs=50"])
    short, large = build.length_notes(config, build.lengths(config, 1437), 1437)
    assert short.startswith("the run of 20 steps ends within its warm-up of 36 steps (config.schedule.warmup_epochs")
    assert large == "a batch of 2000 is larger than the training set of 1437: images repeat in it"
    config, _ = parse(["--config", RECIPE])
    assert build.length_notes(config, build.lengths(config, 1437), 1437) == []
    config, _ = parse([*flag("steps", 20), "--config.ema.warmup=false", "--config.ema.decay=0.99"])
    assert build.length_notes(config, build.lengths(config, 1437), 1437)[1].startswith(
        "the EMA averages about 100 steps (config.ema.decay = 0.99), the run has 20: it stays near the weights of the"
    )
    config, _ = parse(["--config", RECIPE, "--config.eval.image_size=224"])
    (size,) = build.length_notes(config, build.lengths(config, 1437), 1437)
    assert size.startswith("images are 32 px in training and 224 px in the evaluation: config.eval.image_size=0")
    config, _ = parse([*flag("epochs", 1e6), "--config.batch_size=8"])
    with pytest.raises(UserError, match=r"config.epochs = 1e\+06 are 160000000000 steps of batch 8: more than"):
        build.lengths(config, 1_280_000)


# ---------------------------------------------------------------------- what people read


def help_of(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("--config", RECIPE, "--help"), ("-h", f"--config={RECIPE}")])
def test_help_lists_every_field_of_the_recipe(capsys, arguments):
    lines = help_of(capsys, *arguments).splitlines()
    table = lines[lines.index("The whole run.") :]
    section, seen = "", {}
    for line in table:
        if line[:2].strip() in ("", "*") and line[2:3].strip():
            seen[section + line[2:].split()[0]] = line
        elif line and line[0] != " ":
            section = line.partition(":")[0] + "."
            section = "" if line == "The whole run." else section
    assert list(seen) == list(FIELDS)
    config, _ = parse(["--config", RECIPE])
    values = config_lib.flatten(dataclasses.asdict(config))
    changed = {name for name, line in seen.items() if line.startswith("*")}
    assert changed == {name for name, field in FIELDS.items() if values[name] != field.default}
    assert "0.05" in seen["optimizer.learning_rate"] and "highest learning rate" in seen["optimizer.learning_rate"]
    assert max(len(line) for line in table) <= 100
    text = " ".join(" ".join(table).split())
    assert "pixels of a side of training images [between 32 and 4096; default 224]" in text
    assert "update rule [sgd, adamw, rmsprop_tf, lamb, lars]" in text


def test_help_shows_overrides_and_names_mistakes(capsys):
    assert "* seed                    7 " in help_of(capsys, "--config", RECIPE, "--config.seed=7", "--help")
    assert main(["--config", "configs/resnet_rs50.py:digit", "--help"]) == 2
    assert 'Did you mean "digits"' in capsys.readouterr().err


def test_help_alone_is_short_and_says_how_to_see_the_fields(capsys):
    text = help_of(capsys, "--help")
    assert len(text.splitlines()) < 20 and "after --config NAME: every field" in text


def test_docs_are_fresh():
    stale = (cli.ROOT / "docs" / "config.md").read_text() != config_lib.docs()
    assert not stale, "docs/config.md is stale: run `make docs`"
    assert all(f"| `{name}` |" in config_lib.docs() for name in FIELDS)
