"""The attack of tools/chaos in short, and that it would see what it is there to see."""

import time

import pytest

from jaxvision.errors import UserError
from jaxvision.run import checkpoint, records
from tools.chaos import files, state
from tools.chaos import main as chaos
from tools.chaos.attack import Attack, Failure, damage, judge

ATTACKS = state.ATTACKS + files.ATTACKS
BY_NAME = {attack.name: attack for attack in ATTACKS}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_short_attack_is_held(attack):
    row, failures = chaos.attempts(attack, count=8 if "weights" in attack.name else 25, seed=7, first=0)
    assert not failures, "\n".join(failures)
    assert row.startswith(f"| {attack.name} | {attack.what} |")


def raising(error):
    def attempt(prepared, rng, folder):
        raise error

    return attempt


@pytest.mark.parametrize(
    "attempt,word",
    [
        (raising(Failure("lost")), "SILENT"),
        (raising(KeyError("a")), "TRACEBACK"),
        (raising(UserError("no")), "refused"),
        (lambda prepared, rng, folder: time.sleep(30), "HUNG"),
        (lambda prepared, rng, folder: "fine", "fine"),
    ],
)
def test_each_end_of_an_attempt_has_its_word(tmp_path, attempt, word):
    outcome = judge(Attack("a", "b", lambda folder: None, attempt, seconds=1), None, "0", tmp_path)
    assert (outcome.word, outcome.held) == (word, word in ("refused", "fine"))


def test_a_log_without_checksums_is_found_out(monkeypatch):
    monkeypatch.setattr(records, "_crc", lambda record: "constant")
    _, failures = chaos.attempts(BY_NAME["metrics.jsonl"], count=40, seed=0, first=0)
    assert any("SILENT: a changed record was taken" in failure for failure in failures)


def wrong_bit(checkpoints, found):
    found[0]["params.fc.bias"][7] += 1
    return found


def silent(checkpoints, found):
    checkpoints.warn.__self__.clear()
    return found


@pytest.mark.parametrize("planted,told", [(wrong_bit, "with a wrong params.fc.bias"), (silent, "without a warning")])
def test_checkpoints_that_restore_wrongly_or_silently_are_found_out(monkeypatch, planted, told):
    restore = checkpoint.Checkpointer.restore
    monkeypatch.setattr(checkpoint.Checkpointer, "restore", lambda self, target: planted(self, restore(self, target)))
    _, failures = chaos.attempts(BY_NAME["checkpoint, damaged"], count=10, seed=0, first=0)
    assert failures and all("SILENT" in failure and told in failure for failure in failures)


def test_the_same_seed_makes_the_same_attempt_and_damage_is_damage():
    import random

    data = bytes(range(256))
    made = [damage(data, random.Random(f"0/{i}")) for i in range(100)]
    assert made == [damage(data, random.Random(f"0/{i}")) for i in range(100)]
    assert len(set(made)) > 80 and sum(changed == data for changed in made) < 5
    assert all(isinstance(damage(b"", random.Random(i)), bytes) for i in range(20))
