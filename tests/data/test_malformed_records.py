"""Bytes as disks damage them and as strangers write them: a valid result or one kind of error, in bounded time."""

import itertools
import os
import struct
import time
import warnings

import hypothesis
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxvision.data import tfrecord
from jaxvision.data.tfrecord import DataError, parse_example
from tools.chaos.attack import damage

FIELDS = {  # of tf.train.Example; on the wire a map is a repeated entry
    "Example": [("features", 1, "Features", False)],
    "Features": [("feature", 1, "Entry", True)],
    "Entry": [("key", 1, "TYPE_STRING", False), ("value", 2, "Feature", False)],
    "Feature": [("bytes", 1, "Bytes", False), ("floats", 2, "Floats", False), ("ints", 3, "Ints", False)],
    "Bytes": [("value", 1, "TYPE_BYTES", True)],
    "Floats": [("value", 1, "TYPE_FLOAT", True)],
    "Ints": [("value", 1, "TYPE_INT64", True)],
}


def protobuf(packed):
    """protobuf's own class of ``tf.train.Example``, without TensorFlow; ``packed``: how it writes integers."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for key, number, kind, repeated in fields:
            added = message.field.add(name=key, number=number, label=3 if repeated else 1)
            added.type = field.Type.Value(kind) if kind.startswith("TYPE") else field.TYPE_MESSAGE
            if added.type == field.TYPE_MESSAGE:
                added.type_name = f".{kind}"
            elif added.type == field.TYPE_INT64:
                added.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Example"))


EXAMPLES = {packed: protobuf(packed) for packed in (True, False)}
INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.fixed_dictionaries({"bytes": st.lists(st.binary(max_size=40), max_size=3)}),
    st.fixed_dictionaries({"ints": st.lists(INT64, max_size=3)}),
    st.fixed_dictionaries({"floats": st.lists(st.floats(width=32), max_size=3)}),
)


@st.composite
def examples(draw):
    """A serialised example with an image, a label and other features in any order; and the two."""
    images, labels = draw(st.lists(st.binary(max_size=200), min_size=1)), draw(st.lists(INT64, min_size=1))
    others = draw(st.lists(st.tuples(st.text(max_size=8).filter(lambda k: k not in ("image", "label")), VALUES)))
    entries = draw(st.permutations([("image", {"bytes": images}), ("label", {"ints": labels}), *others]))
    message = EXAMPLES[draw(st.booleans())]()
    for key, values in entries:
        entry = message.features.feature.add(key=key)
        for kind, content in values.items():
            getattr(entry.value, kind).value.extend(content)
    return message.SerializeToString(), images[0], labels[0]


@st.composite
def messages(draw, depth=5):
    """Fields with any number and kind, right or wrong lengths, nested in each other."""
    parts = []
    for number, kind in draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), max_size=4)):
        parts.append(bytes([number << 3 | kind]))
        if kind == 2:
            content = draw(messages(depth - 1)) if depth else draw(st.binary(max_size=8) | st.just(b"image"))
            parts += [bytes([min(127, max(0, len(content) + draw(st.sampled_from((0, 0, 0, 1, -1)))))]), content]
        else:
            parts.append(draw(st.binary(max_size=10)))
    return b"".join(parts)


def parsed(data):
    """What :func:`parse_example` returns, None where it refuses; anything else it raises is the failure."""
    try:
        image, label = parse_example(data, "image", "label")
    except DataError:
        return None
    assert isinstance(image, memoryview) and type(label) is int and -(2**63) <= label < 2**63
    return bytes(image), label


@given(examples())
def test_an_example_is_read_as_protobuf_writes_it_and_no_part_of_it_alone(written):
    data, image, label = written
    assert parsed(data) == (image, label)
    for cut in range(len(data)):
        assert parsed(data[:cut]) is None


def agree(data):
    """What is read is what protobuf reads, where it reads the data at all: it looks at every byte, we do not."""
    found = parsed(data)
    try:
        message = EXAMPLES[True].FromString(data)
    except DecodeError:
        return
    features = {entry.key: entry.value for entry in message.features.feature}
    if found:
        assert found == (features["image"].bytes.value[0], features["label"].ints.value[0])


def field(number, content):
    return bytes([number << 3 | 2, len(content)]) + content


def labelled(ints):
    """An example whose list of integers is these bytes."""
    image = field(1, b"image") + field(2, field(1, field(1, b"pixels")))
    return field(1, field(1, image) + field(1, field(1, b"label") + field(2, field(3, ints))))


@settings(max_examples=600)
@given(examples(), st.randoms(use_true_random=False))
def test_a_damaged_example_is_refused_or_read_as_protobuf_reads_it(written, rng):
    agree(damage(written[0], rng))


@settings(max_examples=300)
@given(st.binary(max_size=30) | messages(depth=0))
def test_any_list_of_integers_is_refused_or_read_as_protobuf_reads_it(ints):
    agree(labelled(ints[:60]))


@settings(max_examples=300)
@given(st.binary(max_size=300) | messages())
def test_any_bytes_are_refused_or_read(data):
    parsed(data)
    parsed(field(1, data[:127]))


@pytest.mark.parametrize("tail", [b"\x10", b"\x11" + bytes(7), b"\x15" + bytes(3), b"\x12\x05", b"\x13", b"\x80"])
def test_what_ends_inside_a_field_is_refused(tail):
    whole = labelled(b"\x08\x05")
    assert parsed(whole) == parsed(whole + b"\x15" + bytes(4)) == (b"pixels", 5)
    assert parsed(whole + tail) is None


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=12), st.booleans())
@example(b"\xff", False)  # 18 s when an integer had no limit
def test_no_record_takes_long(pattern, inside):
    data = (pattern * 100_000)[:100_000]
    head = b"\x0a\xa0\x8d\x06" if inside else b""  # the features' tag, and 100,000 as their length
    began = time.process_time()
    parsed(head + data)
    assert time.process_time() - began < 2


# ---------------------------------------------------------------------- files of records, and their index


RECORDS = st.lists(st.binary(max_size=50), max_size=6)


def framed(records):
    def part(data):
        return data + struct.pack("<I", tfrecord.masked_crc(data))

    return b"".join(part(struct.pack("<Q", len(data))) + part(data) for data in records)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A file of records, and the folder of its index."""
    folder = tmp_path_factory.mktemp("records")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder / "x.tfrecord"


def read(path):
    """All records of a file."""
    offsets, fd = tfrecord.record_offsets(path), os.open(path, os.O_RDONLY)
    try:
        return [
            tfrecord.read_record(fd, int(at), int(after - at) - tfrecord.OVERHEAD, verify=True)
            for at, after in itertools.pairwise(offsets)
        ]
    finally:
        os.close(fd)


@settings(max_examples=200)
@given(RECORDS, st.randoms(use_true_random=False))
def test_a_damaged_file_of_records_is_refused_or_whole(place, records, rng):
    """Records may be missing at its end, or twice in it: how many there must be, the data set knows."""
    for data in (framed(records), damage(framed(records), rng)):
        place.write_bytes(data)
        try:
            found = read(place)
        except DataError:
            assert data != framed(records)
        else:
            assert data == framed(found)
            assert found == records or data != framed(records)


def index_of(path):
    """The offsets of a file's records, and where they are cached: nowhere else is anything."""
    for old in (tfrecord.cache_dir() / "index").glob("*"):
        old.unlink()
    offsets = tfrecord.record_offsets(path)
    (cached,) = (tfrecord.cache_dir() / "index").iterdir()
    return offsets, cached


def offsets_and_warnings(path):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        offsets = tfrecord.record_offsets(path)
    return offsets, [str(warning.message) for warning in told]


@given(RECORDS, st.randoms(use_true_random=False), st.none() | st.binary(max_size=64))
def test_a_damaged_index_is_made_again(place, records, rng, other):
    place.write_bytes(framed(records))
    offsets, cached = index_of(place)
    good = cached.read_bytes()
    bad = damage(good, rng) if other is None else other
    cached.write_bytes(bad)
    found, told = offsets_and_warnings(place)
    np.testing.assert_array_equal(found, offsets)
    assert cached.read_bytes() == good
    assert len(told) == (bad != good) and all(f"{cached} of {place} is damaged" in text for text in told)


@given(RECORDS, st.lists(INT64, max_size=4))
@example([bytes(50)], [2**63 - 1, -5])  # numpy's differences of these are positive
def test_an_index_with_a_right_checksum_has_offsets_of_that_file(place, records, others):
    """Whatever it holds: from 12 to behind the file, each at least the 16 bytes of a record after the other."""
    place.write_bytes(framed(records))
    _, cached = index_of(place)
    end = place.stat().st_size + 12
    cached.write_bytes(tfrecord._pack_index(np.array([12, *others, end])))
    found = offsets_and_warnings(place)[0].tolist()
    assert found[0] == 12 and found[-1] == end
    assert all(after - at >= tfrecord.OVERHEAD for at, after in itertools.pairwise(found))
