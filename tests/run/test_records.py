"""Records of a run: three files that agree, on good disks and on full ones, in new runs and in resumed ones."""

import contextlib
import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.run import records as records_module
from jaxvision.run.records import RunLog, read_records

TRAIN = {"loss": 2.1, "accuracy": 12.5, "learning_rate": 0.1, "bad_steps": 0.0, "images_per_second": 99.9}
EVAL = {"top1": 50.0, "top5": 90.0, "eval_loss": 1.5, "ema_top1": 40.0, "ema_top5": 80.0, "ema_eval_loss": 1.75,
        "examples": 360.0}  # fmt: skip


COLUMNS = ("step", "kind", *TRAIN, *EVAL)


class Warnings(list):
    __call__ = list.append


def open_(workdir, resume_step=0, evaluated=True):
    workdir.mkdir(exist_ok=True)
    warnings = Warnings()
    return RunLog(workdir, columns=COLUMNS[2:], resume_step=resume_step, evaluated=evaluated, warn=warnings), warnings


def rows(workdir):
    return list(csv.DictReader((workdir / "metrics.csv").read_text().splitlines()))


def board(workdir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (_,) = (workdir / "tensorboard").iterdir()
    events = EventAccumulator(str(workdir / "tensorboard"))
    events.Reload()
    return {(tag, e.step): e.value for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}


def lines(workdir):
    """The records of metrics.jsonl without their checksums, which each of them has last."""
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert all(list(record)[-1] == "crc32" for record in found)
    return [{key: value for key, value in record.items() if key != "crc32"} for record in found]


def assert_agree(workdir, records):
    """All three files hold these records and nothing else."""
    assert lines(workdir) == records
    for row, record in zip(rows(workdir), records, strict=True):
        assert tuple(row) == COLUMNS
        for column, text in row.items():
            value = record.get(column)
            assert text == "" if value is None else text == value if column == "kind" else float(text) == value
    expected = {
        (f"{r['kind']}/{k}", r["step"]): v
        for r in records
        for k, v in r.items()
        if k not in ("step", "kind") and v is not None
    }
    assert board(workdir) == expected


@contextlib.contextmanager
def full_disk(size):
    """No file may grow past ``size`` bytes: writes take what fits and then fail, as on a full disk."""
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)


def test_the_three_files_agree_exactly_after_every_record(tmp_path):
    log, warnings = open_(tmp_path)
    assert_agree(tmp_path, [])
    first = log.write("train", 3, TRAIN)
    assert first == {"step": 3, "kind": "train"} | {k: float(np.float32(v)) for k, v in TRAIN.items()}
    assert_agree(tmp_path, [first])
    second = log.write("eval", 3, EVAL)
    assert_agree(tmp_path, [first, second])
    log.close()
    assert log.records == read_records(tmp_path) == [first, second] and not warnings


def test_what_is_not_finite_is_null_empty_and_missing(tmp_path):
    log, warnings = open_(tmp_path)
    values = {"loss": float("nan"), "accuracy": float("inf"), "learning_rate": -1e300, "bad_steps": np.float32(1.0)}
    record = log.write("train", 1, TRAIN | values)
    assert [record[key] for key in values] == [None, None, None, 1.0]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert_agree(tmp_path, [record])
    assert not warnings


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path, evaluated):
    log, _ = open_(tmp_path)
    for step in (2, 4, 6):
        log.write("train", step, TRAIN | {"loss": step})
        log.write("eval", step, EVAL)
    log.close()
    log, _ = open_(tmp_path, resume_step=4, evaluated=evaluated)
    kept = [(2, "train"), (2, "eval"), (4, "train"), (4, "eval")][: 4 if evaluated else 3]
    assert [(r["step"], r["kind"]) for r in log.records] == kept
    assert_agree(tmp_path, log.records)
    log.write("train", 6, TRAIN)
    assert_agree(tmp_path, log.records)
    assert len(log.records) == len(kept) + 1


def test_a_new_run_in_an_old_folder_starts_with_nothing(tmp_path):
    log, _ = open_(tmp_path)
    log.write("train", 5, TRAIN)
    log, _ = open_(tmp_path)
    assert log.records == []
    assert_agree(tmp_path, [])


@pytest.mark.parametrize(
    "torn", [b'{"step": 4, "kind": "tra', b"\0" * 40, b"\xff\xfe\n", b"[1]\n", b"7\n", b'{"step": 9}\n', b"\n"]
)
def test_damaged_lines_are_named_left_out_and_gone_after_the_next_start(tmp_path, torn):
    log, _ = open_(tmp_path)
    good = log.write("train", 3, TRAIN)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    damaged = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.warns(UserWarning, match=r"metrics.jsonl is damaged: line 2 left out$"):
        assert read_records(tmp_path) == [good]
    log, warnings = open_(tmp_path, resume_step=9)
    assert [line.partition(" is damaged: ")[2] for line in warnings] == [
        "line 2 left out; the whole file is kept as metrics.jsonl.damaged"
    ]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == damaged
    second = log.write("train", 10, TRAIN)
    assert_agree(tmp_path, [good, second])


def test_no_flipped_bit_changes_a_record_unnoticed(tmp_path):
    """Each record is as it was written, or its line is named; a checksum in its name or value is no way around."""
    log, _ = open_(tmp_path)
    written = [log.write("train", step, TRAIN | {"loss": step / 7}) for step in (3, 6)]
    log.write("eval", 6, EVAL)
    log.close()
    path, rng = tmp_path / "metrics.jsonl", np.random.default_rng(0)
    content = path.read_bytes()
    first = content.index(b"\n")
    for bit in rng.permutation(8 * first)[:400]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        records, damaged = records_module._read(tmp_path)
        assert damaged[:1] == [1] and records[-2:] == log.records[1:] and written[0] not in records, bit


def test_records_of_earlier_versions_have_no_checksums(tmp_path):
    old = [{"step": 3, "kind": "train"} | TRAIN, {"step": 6, "kind": "train"} | TRAIN]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in old))
    assert read_records(tmp_path) == old
    log, warnings = open_(tmp_path, resume_step=6)
    assert log.records == old and not warnings
    assert lines(tmp_path) == old


def test_each_damaged_file_is_kept(tmp_path):
    for _ in range(3):
        (tmp_path / "metrics.jsonl").write_text("junk")
        open_(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.damaged*")) == [
        *("metrics.jsonl.damaged", "metrics.jsonl.damaged-1", "metrics.jsonl.damaged-2")
    ]


def test_a_pipe_in_the_place_of_records_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match=r"metrics.jsonl must be a regular file, it is a pipe"):
        read_records(tmp_path)


def test_files_that_are_deleted_during_the_run_are_written_again(tmp_path):
    log, warnings = open_(tmp_path)
    log.write("train", 1, TRAIN)
    shutil.rmtree(tmp_path)
    log.write("train", 2, TRAIN)
    assert len(warnings) == 3 and all("was deleted during the run: written again" in text for text in warnings)
    log.write("eval", 2, EVAL)
    assert log.close() and len(warnings) == 3
    assert_agree(tmp_path, log.records)


def test_a_folder_without_records_has_none(tmp_path):
    assert read_records(tmp_path) == [] == read_records(tmp_path / "absent")


def test_a_full_disk_is_told_once_loses_nothing_and_tears_no_line(tmp_path):
    log, warnings = open_(tmp_path)
    with full_disk(1000):
        for step in range(1, 40):  # far more than a writer's thread would queue
            log.write("train", step, TRAIN)
        assert len(warnings) == 1 and warnings[0].startswith("metrics were not written (File too large); they are kept")
        found = lines(tmp_path)
        assert 0 < len(found) < 39 and found == log.records[: len(found)]
        assert 0 < len(rows(tmp_path)) < 39 and board(tmp_path)
    log.write("train", 40, TRAIN)
    assert_agree(tmp_path, log.records)
    assert [r["step"] for r in log.records] == list(range(1, 41)) and len(warnings) == 1
    with full_disk(1000):
        log.write("train", 41, TRAIN)
        assert len(warnings) == 2  # the disk had been free in between
        assert not log.close()
    assert log.close()
    assert_agree(tmp_path, log.records)


def test_a_workdir_that_cannot_be_written_to_is_one_clear_line(tmp_path):
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(UserError, match=r"cannot write the records of the run to .*: Is a directory$"):
        open_(tmp_path)


def test_records_need_no_tensorboardx(tmp_path):
    code = (
        "import sys; sys.modules['tensorboardX'] = None\n"
        "from pathlib import Path; from jaxvision.run.records import RunLog\n"
        "log = RunLog(Path(sys.argv[1]), columns=(), resume_step=0, evaluated=True, warn=print)\n"
        "log.write('train', 1, {'loss': 1.5}); log.close()"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert [r["loss"] for r in read_records(tmp_path)] == [1.5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "metrics.jsonl"]
