"""How a config section declares its fields: each once, with its default, its meaning and the values it takes.

A section is a frozen dataclass in the module that uses it::

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class EmaConfig:
        decay: float = option(0.9999, "share of the old EMA that an update keeps", low=0, high=1)

A field is a bool, int, float, str or a tuple of them; every number must be finite. Conditions on several fields are
checked by a method ``problems`` of their section, which returns a :class:`Problem` for each one that is violated.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from jaxvision.errors import did_you_mean

REQUIRED = "?"  # the value of a field that has to be given on the command line

LARGEST_INT = 2**31 - 1  # of int32, which counts the steps
_LARGEST_FLOAT = 3.4e38  # of float32, in which everything is computed


@dataclasses.dataclass(frozen=True)
class Option:
    """The declaration of a field.

    Attributes:
      meaning: one sentence for a person: what the value does, its unit, and what special values mean.
      choices: the only values allowed; empty where any is.
      low, high: the smallest and the largest value allowed, of a number or of each number in a tuple.
      above, below: the same, without the bound itself.
      check: returns what is wrong with a value of the right type, or None.
    """

    meaning: str
    choices: Collection[Any] = ()
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    check: Callable[[Any], str | None] | None = None


def option(
    default: Any,
    meaning: str,
    *,
    choices: Collection[Any] = (),
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    check: Callable[[Any], str | None] | None = None,
) -> Any:
    """A dataclass field that carries an :class:`Option`, which config, ``--help`` and ``docs/config.md`` read."""
    stated = Option(meaning, choices, low, high, above, below, check)
    return dataclasses.field(default=default, metadata={"option": stated})


def section(kind: type) -> Any:
    """A dataclass field that holds a section with its defaults."""
    return dataclasses.field(default_factory=kind)


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a section: its type, default and :class:`Option`."""

    type: Any
    default: Any
    option: Option


def fields(kind: type, prefix: str = "") -> dict[str, Field]:
    """All fields of a section and of the sections in it, under dotted names, in the order they are stated."""
    found: dict[str, Field] = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            found |= fields(hints[field.name], f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = Field(hints[field.name], field.default, field.metadata["option"])
    return found


class Problem(NamedTuple):
    """What is wrong, in a sentence, and the names of the fields that it is about."""

    fields: tuple[str, ...]
    text: str


def build(kind: type, values: Mapping[str, Any], problems: list[Problem], prefix: str = "") -> Any:
    """A section of nested values, checked; what is missing has its default.

    Args:
      kind: the section's class.
      values: by field name; a mapping for each section in it. Other names are ignored.
      problems: what is wrong is appended. Of fields whose own values are wrong no relation is checked.
      prefix: of names in its sentences, "config.optimizer.".
    """
    chosen = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            inner = values.get(field.name, {})
            inner = inner if isinstance(inner, Mapping) else {}
            chosen[field.name] = build(hint, inner, problems, f"{prefix}{field.name}.")
        elif field.name in values:
            value, problem = checked(values[field.name], hint, field.metadata["option"])
            name = prefix + field.name
            if problem == REQUIRED:
                problems.append(Problem((name,), f"{name} has to be given: --{name}=..."))
            elif problem:
                problems.append(Problem((name,), f"{name} = {values[field.name]!r}: {problem}"))
            # A wrong value, such as 10**400, would break the relations below.
            chosen[field.name] = field.default if problem else value
    made = kind(**chosen)
    wrong = {name for problem in problems for name in problem.fields}
    for problem in made.problems() if hasattr(made, "problems") else ():
        if not wrong.intersection(prefix + name for name in problem.fields):
            problems.append(problem)
    return made


def checked(value: Any, kind: Any, stated: Option) -> tuple[Any, str | None]:
    """The value in the field's type (None where it has another) and what is wrong with it (None if nothing is)."""
    if isinstance(value, str) and value == REQUIRED:
        return None, REQUIRED
    try:
        typed = _typed(value, kind)
    except TypeError:
        return None, f"expected {type_text(kind)}"
    if any(isinstance(leaf, str) and not _plain(leaf) for leaf in _leaves(typed)):
        return typed, "holds a character that no file name and no record can have (NUL, or half of a surrogate pair)"
    numbers = [n for n in _leaves(typed) if isinstance(n, int | float) and not isinstance(n, bool)]
    for number in numbers:
        if isinstance(number, int) and abs(number) > LARGEST_INT:
            return typed, f"must be at most {LARGEST_INT}" if number > 0 else f"must be at least {-LARGEST_INT}"
        if not abs(number) <= _LARGEST_FLOAT:
            return typed, "must be finite, as float32 holds it"
    if stated.choices and typed not in stated.choices:
        near = did_you_mean(str(typed), map(str, stated.choices))
        return typed, f"expected one of {', '.join(map(str, stated.choices))}.{near}"
    inside = (stated.low <= n <= stated.high and stated.above < n < stated.below for n in numbers)
    if not all(inside):
        return typed, f"{'each number ' if isinstance(typed, tuple) else ''}must be {range_text(stated)}"
    return typed, stated.check(typed) if stated.check else None


def _typed(value: Any, kind: Any) -> Any:
    """The value as ``kind``; a whole number is a float, too, and a list a tuple. TypeError for any other type."""
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if not isinstance(value, tuple | list):
            raise TypeError
        kinds = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
        if len(value) != len(kinds):
            raise TypeError
        return tuple(_typed(v, k) for v, k in zip(value, kinds, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) <= LARGEST_INT else value
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError
    return value


def _plain(text: str) -> bool:
    """Whether a text can be written to a file and name one."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _leaves(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, tuple) else [value]


def ordered(pair: tuple[float, float]) -> str | None:
    """What is wrong with a range (low, high), or None: a ``check`` for options."""
    return None if pair[0] <= pair[1] else "expected (low, high) with low <= high"


def type_text(kind: Any) -> str:
    """A type in words: "two numbers (a, b)"."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    if typing.get_origin(kind) is not tuple:
        return words[kind]
    inner = typing.get_args(kind)
    if inner[-1] is not Ellipsis:
        nouns = {(float, float): "two numbers (low, high)", (str, float): "(regular expression, number)"}
        return nouns[inner]
    if typing.get_origin(inner[0]) is tuple:
        return f"a tuple of {type_text(inner[0])}"
    return {int: "a tuple of whole numbers", float: "a tuple of numbers"}[inner[0]]


def range_text(stated: Option) -> str:
    """The allowed range in words, "between 32 and 4096"; empty where any number is allowed."""
    if stated.low > -math.inf and stated.high < math.inf:
        return f"between {stated.low:.10g} and {stated.high:.10g}"
    bounds = {"at least": stated.low, "above": stated.above, "at most": stated.high, "below": stated.below}
    return " and ".join(f"{word} {bound:.10g}" for word, bound in bounds.items() if math.isfinite(bound))


def allowed_text(field: Field) -> str:
    """The values a field takes, in words; empty where its type says all."""
    return ", ".join(map(str, field.option.choices)) or range_text(field.option)


# ---------------------------------------------------------------------- tables for people


def help_text(kind: type, values: Mapping[str, Any], width: int = 100) -> str:
    """Every field with its value, the allowed values and the meaning, by section, in lines of ``width`` characters.

    Args:
      kind: the class of the whole config.
      values: the config's values by dotted name.
      width: of a line; only a value without a space may be longer.
    """
    lines = ["* marks what differs from the default; allowed values and changed defaults are in brackets"]
    indent = " " * 26
    for name, title, stated in _sections(kind):
        lines += ["", *textwrap.wrap(f"{name}: {title}" if name else title, width)]
        for dotted, field in stated.items():
            value = values[dotted]
            changed = _typed_or_same(value, field.type) != field.default
            notes = [allowed_text(field), f"default {_shown(field.default)}" if changed else ""]
            bracket = f" [{'; '.join(filter(None, notes))}]" if any(notes) else ""
            start = f"{'*' if changed else ' '} {dotted.rpartition('.')[2]:<23} "
            first, rest = f"{_shown(value)}", field.option.meaning + bracket
            if len(first) > 14:
                lines.append(start + first)
                start, first = "", ""
            text = f"{first:<14} {rest}" if first else rest
            lines += textwrap.wrap(
                text,
                width,
                initial_indent=start or indent + " " * 15,
                subsequent_indent=indent + " " * 15,
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def markdown(kind: type) -> str:
    """A Markdown table of every field, by section."""
    lines = []
    for name, title, stated in _sections(kind):
        lines += [
            "",
            f"## {name or 'The run'}",
            "",
            title,
            "",
            "| field | default | allowed | meaning |",
            "|---|---|---|---|",
        ]
        for dotted, field in stated.items():
            allowed = allowed_text(field) or type_text(field.type)
            cells = [f"`{dotted}`", f"`{_shown(field.default)}`", allowed, field.option.meaning]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines[1:]) + "\n"


def _sections(kind: type) -> list[tuple[str, str, dict[str, Field]]]:
    """(name, first line of the docstring, fields by dotted name) of the config's own fields and of each section."""
    every = fields(kind)
    hints = typing.get_type_hints(kind)
    inner = [field.name for field in dataclasses.fields(kind) if dataclasses.is_dataclass(hints[field.name])]
    own = {name: field for name, field in every.items() if "." not in name}
    found = [("", (kind.__doc__ or "").splitlines()[0], own)]
    for name in inner:
        stated = {dotted: field for dotted, field in every.items() if dotted.startswith(f"{name}.")}
        found.append((name, (hints[name].__doc__ or "").splitlines()[0], stated))
    return found


def _typed_or_same(value: Any, kind: Any) -> Any:
    try:
        return _typed(value, kind)
    except TypeError:
        return value


def _shown(value: Any) -> str:
    """A value as it is typed after ``=``; floats with at most six digits."""
    if isinstance(value, tuple | list):
        shown = [repr(part) if isinstance(part, str) else _shown(part) for part in value]
        return "(" + ",".join(shown) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}" if not value.is_integer() or abs(value) >= 1e6 else f"{value:.1f}"
    return repr(value) if value == "" else str(value)
