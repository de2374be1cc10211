"""Bytes as strangers may write them: parsers give one kind of error or a sensible value, in no time."""

import json
import time

import hypothesis
import numpy as np
from hypothesis import strategies as st

from jaxvision.data import digits
from jaxvision.data.tfrecord import DataError, _pack_index, _unpack_index, parse_example
from jaxvision.run import records

hypothesis.settings.register_profile(
    "the same each time", derandomize=True, deadline=None, max_examples=1500, database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)  # fmt: skip
hypothesis.settings.load_profile("the same each time")


def digits_record():
    """The first record of the packaged digits."""
    file = next(path for path in sorted(digits.DATA_DIR.rglob("*")) if ".tfrecord" in path.name)
    data = file.read_bytes()
    return data[12 : 12 + int.from_bytes(data[:8], "little")]


WHOLE = digits_record()


@st.composite
def messages(draw, depth=3):
    """Protocol buffers: fields of random numbers and kinds, nested, with lengths that may be wrong."""
    out = b""
    for _ in range(draw(st.integers(0, 4))):
        number, kind = draw(st.integers(0, 5)), draw(st.sampled_from((0, 1, 2, 2, 2, 3, 5)))
        out += bytes([number << 3 | kind])
        if kind == 2:
            content = draw(messages(depth - 1)) if depth else draw(st.sampled_from((b"image", b"label", b"\x07")))
            out += bytes([draw(st.sampled_from((len(content) % 128, 127, 0)))]) + content
        else:
            out += draw(st.binary(max_size=11))
    return out


@st.composite
def mutations(draw):
    """A real record with some bytes changed, inserted or cut."""
    data = bytearray(WHOLE)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


@hypothesis.given(st.one_of(st.binary(max_size=200), messages(), mutations()))
@hypothesis.example(b"\xff" * 300_000)  # took 18 s when an integer had no limit
@hypothesis.example(b"\x0a" + b"\xff" * 9 + b"\x01")
@hypothesis.example(b"")
def test_a_record_is_parsed_or_refused(data):
    began = time.monotonic()
    try:
        image, label = parse_example(data, "image", "label")
    except DataError:
        return
    finally:
        assert time.monotonic() - began < 5
    assert isinstance(image, memoryview) and -(2**63) <= label < 2**63


def test_both_ends_of_it_are_reached():
    assert parse_example(WHOLE, "image", "label")[1] in range(10)
    found = []
    for cut in range(0, len(WHOLE), 5):
        try:
            found.append(parse_example(WHOLE[:cut], "image", "label"))
        except DataError:
            found.append(None)
    assert found.count(None) > 10


@hypothesis.given(st.binary(max_size=100), st.integers(0, 2**40))
def test_an_index_is_read_or_refused(content, size):
    for data in (content, content[:-4] and _sealed(content)):
        try:
            offsets = _unpack_index(data, size)
        except ValueError:
            continue
        assert offsets[0] == 12 and offsets[-1] == size + 12


def _sealed(content):
    """The bytes with the checksum that belongs to them, as a wrong index of ours would have it."""
    return _pack_index(np.frombuffer(content[: len(content) // 8 * 8], "<i8"))


@hypothesis.settings(max_examples=300)
@hypothesis.given(
    st.lists(st.one_of(st.binary(max_size=60), st.just(b"{}"), st.just(b"[1]"), st.just(b"null")), max_size=6)
)
def test_a_log_of_any_bytes_is_read(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("log")
    (folder / "metrics.jsonl").write_bytes(b"\n".join(lines))
    told = []
    log = records.RunLog(folder, columns=("loss",), resume_step=9, evaluated=True, warn=told.append)
    log.write("train", 9, {"loss": 0.5})
    log.close()
    assert all("kind" in record and "step" in record for record in log.records)
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        assert isinstance(json.loads(line), dict)
