"""Records as strangers may write them."""

import time

import numpy as np

from jaxvision.data import digits
from jaxvision.data.tfrecord import DataError, parse_example


def test_a_malformed_record_is_one_kind_of_error_and_takes_no_time():
    """Random bytes, cut records and endless integers; 300 kB of 0xFF took 18 s when an integer had no limit."""
    rng = np.random.default_rng(0)
    whole = digits_record()
    assert parse_example(whole, "image", "label")[1] in range(10)
    junk = [b"\xff" * 300_000, b"\x0a" + b"\xff" * 9 + b"\x01", *(whole[:cut] for cut in range(0, len(whole) - 1, 7))]
    for _ in range(3000):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            changed[place] = rng.integers(0, 256)
        junk.append(bytes(changed))
    refused, began = 0, time.monotonic()
    for data in junk:
        try:
            image, label = parse_example(data, "image", "label")
        except DataError:
            refused += 1
        else:
            assert isinstance(image, memoryview) and -(2**63) <= label < 2**63
    assert 100 < refused < len(junk) and time.monotonic() - began < 20


def digits_record():
    """The first record of the packaged digits."""
    file = next(path for path in sorted(digits.DATA_DIR.rglob("*")) if ".tfrecord" in path.name)
    data = file.read_bytes()
    return data[12 : 12 + int.from_bytes(data[:8], "little")]
