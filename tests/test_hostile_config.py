"""Every field of the config against values that no run can use: accepted, or one clear error that names the field."""

import dataclasses
import math
import random
import typing

import pytest

from jaxvision import config as config_lib
from jaxvision.config import FIELDS, Config, base_config, resolve
from jaxvision.errors import UserError
from jaxvision.optim.rules import KERNELS_ONLY

NUMBERS = (math.inf, -math.inf, math.nan, 1e308, -1e308, 3e38, 10**20, -(10**20), 2**31, 10**400, -1, -1e-9, 0, 1e-45)
HOSTILE = (
    *NUMBERS, True, None, "", "inf", "?", "\0", "\ud800", "(", "x" * 5000, b"x", {}, {"a": 1}, {1}, 1j, object(),
    (), [], ("a",), ("a", "b"), (math.inf, math.inf), (math.nan, 1.0), (-1.0, -1.0), (1e38, 1e38), (True, False),
    (".*", 1.0), ((".*",),), (("(", 1.0),), ((1.0, ".*"),), ((".*", 1.0, 2.0),), ((".*", math.inf),), ((".*", -1.0),),
    ((".*", 1e308),), [[[]]], ((),),
)  # fmt: skip


def problem(values):
    """What :func:`resolve` says of these fields of a nested dict, which takes values of any type; None: accepted."""
    nested = dataclasses.asdict(Config())
    for name, value in values.items():
        *path, last = name.split(".")
        section = nested
        for entry in path:
            section = section[entry]
        section[last] = value

    class Given:
        def to_dict(self):
            return nested

    try:
        resolve(Given())
    except UserError as error:
        return str(error)
    return None


def numeric(field):
    """Whether a field holds numbers."""
    kind = field.type
    while typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[-1 if typing.get_args(kind)[-1] is not Ellipsis else 0]
    return kind in (int, float)


@pytest.mark.parametrize("name", FIELDS)
def test_a_hostile_value_is_accepted_or_refused_by_name(name):
    for value in HOSTILE:
        message = problem({name: value})
        assert message is None or name in message, (value, message)


def test_hostile_values_of_several_fields_at_once():
    """The relations between fields are checked with values that are wrong, too: 400 configs, the same each time."""
    chosen = random.Random(0)
    for _ in range(400):
        values = {name: chosen.choice(HOSTILE) for name in chosen.sample(list(FIELDS), chosen.randint(2, 12))}
        message = problem(values)
        assert message is None or any(name.rpartition(".")[2] in message for name in values), (values, message)


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if numeric(field)])
def test_every_number_has_a_smallest_and_a_largest_value(name):
    stated = FIELDS[name].option
    if not stated.choices:
        assert math.isfinite(max(stated.low, stated.above)) and math.isfinite(min(stated.high, stated.below))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("optimizer.learning_rate", 3e38, "must be between 0 and 1000000"),
        ("optimizer.weight_decay", 3e38, "must be between 0 and 1000000"),
        ("schedule.start_learning_rate", 1e30, "must be between 0 and 1000000"),
        ("schedule.delay_epochs", 1e30, "must be between 0 and 1000000"),
        ("augment.mixup", 1e30, "must be between 0 and 1000"),
        ("teacher.temperature", 1e-30, "must be between 0.001 and 1000"),
        ("optimizer.decay_rules", (), "expected at least one (regular expression, number) pair"),
        ("data.dir", "a\0b", "holds a character that no file name and no record can have"),
        ("data.dir", "a\ud800b", "holds a character that no file name and no record can have"),
        ("distributed.processes", -1, "must be between 1 and 100000"),
        ("log_every", -(10**20), "must be at least -2147483647"),
    ],
)
def test_values_without_a_meaning(name, value, expected):
    assert expected in problem({name: value})


def test_the_defaults_are_accepted():
    assert problem({}) is None and problem({"optimizer.decay_rules": KERNELS_ONLY}) is None
    assert set(config_lib.flatten(base_config())) == set(FIELDS)
