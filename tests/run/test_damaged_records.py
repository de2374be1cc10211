"""``metrics.jsonl`` as disks damage it and as strangers write it: lines are whole records, or named and left out."""

import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxvision.run.records import RunLog
from tools.chaos.attack import damage

VALUES = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)
RECORDS = st.lists(
    st.tuples(
        st.sampled_from(("train", "eval")),
        st.integers(0, 2**31 - 1),
        st.dictionaries(st.sampled_from(("loss", "accuracy", "top1", "an unknown one")), VALUES),
    ),
    max_size=4,
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
STRANGE = st.fixed_dictionaries(
    {"step": st.integers(-1, 9) | ANYTHING, "kind": st.sampled_from(("train", "eval")) | ANYTHING},
    optional={"loss": ANYTHING, "crc32": ANYTHING, "\ud800": st.floats()},
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # it takes most of the time
        yield tmp_path_factory.mktemp("run")


def opened(workdir, content):
    """The records that a resumed run takes from such a file, and what it says: no line is left out silently."""
    for old in workdir.glob("metrics.*"):
        old.unlink()
    (workdir / "metrics.jsonl").write_bytes(content)
    told = []
    log = RunLog(workdir, columns=("loss", "accuracy"), resume_step=2**63, evaluated=True, warn=told.append)
    assert log.close()
    again = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [{key: value for key, value in record.items() if key != "crc32"} for record in again] == log.records
    lines = content.removesuffix(b"\n").split(b"\n") if content.strip(b"\n") else []
    assert told or len(log.records) == len(lines)
    return log.records, told


@given(RECORDS, st.randoms(use_true_random=False))
def test_a_damaged_file_has_records_that_were_written_and_no_others(workdir, records, rng):
    opened(workdir, b"")
    log = RunLog(workdir, columns=("loss", "accuracy"), resume_step=0, evaluated=True, warn=print)
    written = [log.write(*record) for record in records]
    content = (workdir / "metrics.jsonl").read_bytes()
    assert opened(workdir, content) == (written, [])
    found, _ = opened(workdir, damage(content, rng))
    assert all(record in written for record in found)


@given(st.lists(STRANGE.map(json.dumps).map(str.encode) | st.binary(max_size=40), min_size=1, max_size=3))
@example([b'{"step": 1, "kind": "train", "loss": 1' + b"0" * 4000 + b"}"])
@example([b"[" * 100_000])
def test_any_lines_are_records_that_all_files_hold_or_are_named(workdir, lines):
    for record in opened(workdir, b"\n".join(lines))[0]:
        assert type(record["step"]) is int and record["kind"] in ("train", "eval")
