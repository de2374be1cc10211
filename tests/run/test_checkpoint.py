"""Checkpoints: round trip, retention, damage, other models, full disks."""

import json
import os
import random
import resource
import shutil
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.run.checkpoint import Checkpointer, _digest


def state(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "params.conv1.weight": rng.standard_normal((8, 3, 3, 3), np.float32),
        "params.fc.bias": rng.standard_normal(2000, np.float32),
        "half": rng.standard_normal(50, np.float32).astype(jnp.bfloat16),
        "step": np.array(seed, np.int32),
    }


class Warnings(list):
    __call__ = list.append


def open_(folder, keep=2, read_only=False):
    warnings = Warnings()
    return Checkpointer(folder, keep=keep, warn=warnings, read_only=read_only), warnings


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, name
        assert a[name].tobytes() == b[name].tobytes(), name


def test_round_trip_and_metadata(tmp_path):
    checkpoints, warnings = open_(tmp_path / "c")
    assert checkpoints.restore(state()) is None
    assert checkpoints.save(5, state(5), {"note": [1, "two"]}, score=3.5)
    assert checkpoints.close() and not warnings
    assert checkpoints.best == 5
    again, _ = open_(tmp_path / "c")
    flat, meta, step = again.restore(state())
    assert_same(flat, state(5))
    assert (meta, step) == ({"note": [1, "two"]}, 5)
    again.close()


def test_latest_and_best_survive_restarts_with_worsening_scores(tmp_path):
    for step in range(8):
        checkpoints, _ = open_(tmp_path / "c")
        checkpoints.save(step, state(step), {}, score={1: 0.9}.get(step, 0.5 - 0.01 * step) if step % 2 else None)
        checkpoints.close()
        assert checkpoints.best == (1 if step else None)
    checkpoints, _ = open_(tmp_path / "c")
    assert checkpoints.steps() == [1, 6, 7]
    assert_same(checkpoints.restore(state(), step=1)[0], state(1))
    checkpoints.close()


def test_saving_a_step_again_replaces_it(tmp_path):
    checkpoints, warnings = open_(tmp_path / "c")
    checkpoints.save(3, state(3), {"evaluated": False})
    checkpoints.save(3, state(3), {"evaluated": True}, score=1.0)
    checkpoints.close()
    assert not warnings and checkpoints.best == 3
    checkpoints, _ = open_(tmp_path / "c")
    assert checkpoints.restore(state())[1] == {"evaluated": True}
    checkpoints.close()


def test_bit_flips_and_truncations_are_never_restored_silently(tmp_path):
    checkpoints, _ = open_(tmp_path / "good")
    checkpoints.save(1, state(1), {"a": 1})
    checkpoints.save(2, state(2), {"a": 2})
    checkpoints.close()
    files = [p for p in sorted((tmp_path / "good" / "step_2").rglob("*")) if p.is_file() and p.stat().st_size]
    rng = random.Random(0)
    outcomes = {"newest": 0, "older": 0}
    for i in range(40):
        broken = tmp_path / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(tmp_path / "good", broken)
        # The large files hold the arrays; each file gets its share of hits all the same.
        victim = broken / rng.choice(files).relative_to(tmp_path / "good")
        data = bytearray(victim.read_bytes())
        if i % 4 == 3:
            data = data[: rng.randrange(len(data))]
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        victim.write_bytes(data)
        checkpoints, warnings = open_(broken)
        flat, meta, step = checkpoints.restore(state())
        checkpoints.close()
        # Either the damage was in a file that nothing depends on, or the older one took its place and it was said.
        assert_same(flat, state(step))
        assert meta == {"a": step}
        outcomes["newest" if step == 2 else "older"] += 1
        assert (step == 2) == (not warnings), (victim, warnings)
        if step == 1:
            assert "step 2 is damaged" in warnings[0]
    assert outcomes["older"] >= 10, outcomes


@pytest.mark.parametrize("content", [b"\xa2{}", b'{"scorf": 1.0}', b'{"score": "high"}', b"[1]"])
def test_a_damaged_score_file_stops_nothing(tmp_path, content):
    checkpoints, _ = open_(tmp_path / "c")
    checkpoints.save(1, state(1), {}, score=1.0)
    checkpoints.save(2, state(2), {}, score=0.5)
    checkpoints.close()
    (tmp_path / "c" / "step_1" / "metrics" / "metrics").write_bytes(content)
    for read_only in (True, False):
        checkpoints, _ = open_(tmp_path / "c", read_only=read_only)
        assert checkpoints.restore(state())[2] == 2
        if not read_only:
            checkpoints.save(3, state(3), {}, score=0.1)
        checkpoints.close()
    assert checkpoints.best == 2


def test_a_flip_in_the_array_data_names_the_array(tmp_path, monkeypatch):
    checkpoints, _ = open_(tmp_path / "c")
    checkpoints.save(1, state(1), {})
    checkpoints.wait()
    original = checkpoints._manager.restore

    def flipped(*args, **kwargs):
        result = original(*args, **kwargs)
        if "state" in result:
            value = np.array(result["state"]["params.fc.bias"])
            value.view(np.uint32)[7] ^= 1
            result["state"]["params.fc.bias"] = value
        return result

    monkeypatch.setattr(checkpoints._manager, "restore", flipped)
    with pytest.raises(
        ValueError, match=r"no usable checkpoint(.|\n)*checksum of params.fc.bias differs(.|\n)*--workdir"
    ):
        checkpoints.restore(state())
    checkpoints.close()


def test_a_checkpoint_of_another_model_lists_the_differences(tmp_path):
    checkpoints, _ = open_(tmp_path / "c")
    checkpoints.save(1, state(1), {})
    other = state()
    other["params.new"] = other.pop("half")
    other["params.fc.bias"] = np.zeros(7, np.float32)
    other["step"] = other["step"].astype(np.int64)
    with pytest.raises(ValueError) as error:
        checkpoints.restore(other)
    for part in ("4 differences", "only in the checkpoint: half", "only in the model: params.new",
                 "fc.bias: checkpoint has [[2000], 'float32'], model has [[7], 'float32']", "step: chec"):  # fmt: skip
        assert part in str(error.value)
    with pytest.raises(ValueError, match=r"no checkpoint of step 9.*\[1\]"):
        checkpoints.restore(state(), step=9)
    checkpoints.close()


def test_full_disk_leaves_no_debris_and_the_next_save_works(tmp_path):
    """A file-size limit makes the real writes fail, in Orbax's C++ as in Python."""
    big = state(2) | {"large": np.random.default_rng(0).standard_normal(400_000)}
    checkpoints, warnings = open_(tmp_path / "c")
    checkpoints.save(1, state(1) | {"large": np.zeros(400_000)}, {})
    assert checkpoints.wait()
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
    try:
        checkpoints.save(2, big, {})
        assert not checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert (
        len(warnings) == 1 and warnings[0].startswith("checkpoint of step 2 was not saved") and "\n" not in warnings[0]
    )
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["step_1"]
    assert checkpoints.save(3, big, {})
    assert checkpoints.close()
    again, _ = open_(tmp_path / "c")
    assert_same(again.restore(big)[0], big)
    assert again.steps() == [1, 3]
    again.close()


def test_a_step_that_was_saved_again_can_be_deleted_again(tmp_path):
    """An evaluation that a signal cut off saves its step a second time; later it gives way to newer ones."""
    said = []
    checkpoints = Checkpointer(tmp_path / "c", keep=1, warn=said.append)
    for step, score in [(1, 0.1), (1, 0.2), (2, 0.5), (3, 0.9), (2, 0.1), (4, 0.3), (5, 0.2)]:
        assert checkpoints.save(step, {"w": np.full(3, step, np.float32)}, {"evaluated": True}, score)
        assert checkpoints.wait()
    assert checkpoints.steps() == [3, 5] and not said
    assert checkpoints.close()


def three(folder):
    checkpoints, _ = open_(folder, keep=3)
    for step in (2, 5, 9):
        checkpoints.save(step, state(step), {})
    checkpoints.close()


def reopened(folder):
    """What is restored, or the warnings and the error, in one place."""
    checkpoints, warnings = open_(folder, keep=3)
    found = checkpoints.restore(state())
    checkpoints.close()
    return found, warnings


def test_a_renamed_folder_is_no_later_step(tmp_path):
    three(tmp_path)
    (tmp_path / "step_9").rename(tmp_path / "step_1000")
    (flat, _, step), warnings = reopened(tmp_path)
    assert step == 5 and warnings == [
        "checkpoint of step 1000 is damaged: it was saved as step 9, and its folder was renamed; trying the one before"
    ]
    assert_same(flat, state(5))


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("how,name", [
    (fifo, "_CHECKPOINT_METADATA"), (endless, "meta/metadata"), (fifo, "metrics/metrics"), (folder, "metrics/metrics"),
    (endless, "state/manifest.ocdbt"),
])  # fmt: skip
def test_what_no_run_writes_is_named_instead_of_read(tmp_path, how, name):
    checkpoints, _ = open_(tmp_path)
    checkpoints.save(9, state(), {}, score=1.0)
    checkpoints.close()
    how(tmp_path / "step_9" / name)
    (tmp_path / "step_11").symlink_to("step_9")
    (tmp_path / "step_12").write_text("junk")
    for read_only in (False, True):
        with pytest.raises(UserError, match=rf"no run wrote .*: step_11, step_12, step_9/{name}\. Delete them, or put"):
            open_(tmp_path, read_only=read_only)


@pytest.mark.parametrize("change", [
    lambda d: 3, lambda d: [1], lambda d: d | {"arrays": []}, lambda d: d | {"arrays": {"step": None}},
    lambda d: {k: v for k, v in d.items() if k != "arrays"}, lambda d: d | {"meta": None}, lambda d: d | {"step": "9"},
    lambda d: d | {"arrays": {"step": [[10**12], "float32", 1]}}, lambda d: d | {"format": None},
])  # fmt: skip
def test_metadata_with_a_right_digest_and_wrong_fields_is_damage(tmp_path, change):
    three(tmp_path)
    file = tmp_path / "step_9" / "meta" / "metadata"
    document = change(json.loads(file.read_text())["document"])
    file.write_text(json.dumps({"document": document, "sha256": _digest(document)}))
    try:
        (_, _, step), warnings = reopened(tmp_path)
        assert step == 5 and "checkpoint of step 9 is damaged" in warnings[0]
    except UserError as error:
        assert "is of another model or optimizer" in str(error)
