"""Weights files that would take far more time or memory than their size are refused, by one message and at once."""

import os
import zipfile

import numpy as np
import pytest
import torch

from jaxvision.errors import UserError
from jaxvision.weights import state_dict
from jaxvision.weights.state_dict import read_state_dict


def test_a_torch_file_that_expands_is_refused_before_it_is_read(tmp_path, monkeypatch):
    plain, bomb = tmp_path / "plain.pth", tmp_path / "bomb.pth"
    torch.save({"fc.weight": torch.zeros(3000, 1000)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert bomb.stat().st_size < 20_000
    assert read_state_dict(plain)["fc.weight"].shape == (3000, 1000)  # zeros, but not compressed
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("torch opened it"))
    with pytest.raises(UserError, match=r"bomb.pth was refused: \d+ bytes that expand to 12\d{6}"):
        read_state_dict(bomb)


def test_a_small_tensor_repeated_to_a_huge_one_is_refused_by_name(tmp_path):
    torch.save({"fc.weight": torch.ones(1).expand(2**34), "fc.bias": torch.ones(3)}, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").stat().st_size < 10_000
    with pytest.raises(UserError, match="repeats 1 stored values 17179869184 times over"):
        read_state_dict(tmp_path / "w.pth")


def test_a_tensor_that_is_repeated_a_little_is_read(tmp_path):
    torch.save({"fc.bias": torch.full((1,), 2.0).expand(30)}, tmp_path / "w.pth")
    np.testing.assert_array_equal(read_state_dict(tmp_path / "w.pth")["fc.bias"], np.full(30, 2.0))


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "w.safetensors"
    with path.open("wb") as file:
        file.write((6 * 2**30).to_bytes(8, "little") + b"{")
        file.truncate(6 * 2**30 + 8)  # a sparse file
    with pytest.raises(UserError, match="its header claims 6442450944 bytes, at most 100000000"):
        read_state_dict(path)


def test_pipes_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "w.pth")
    (tmp_path / "w.safetensors").symlink_to("/dev/zero")
    for name, kind in (("w.pth", "a pipe"), ("w.safetensors", "a device")):
        with pytest.raises(UserError, match=f"{name} must be a regular file, it is {kind}"):
            state_dict.open_file(tmp_path / name)
