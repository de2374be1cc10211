"""Tensors that are no dense array of numbers are refused by name, from a mapping and from a file."""

import pytest
import torch

from jaxvision.errors import UserError
from jaxvision.weights.state_dict import read_state_dict

KINDS = {
    "is sparse": lambda: torch.eye(3).to_sparse(),
    "is nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "is on the meta device": lambda: torch.empty(3, device="meta"),
    "is complex": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "is quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
}


@pytest.mark.filterwarnings("ignore")  # torch's own, of prototypes and of quantization
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_that_are_no_plain_arrays_are_named(kind, tmp_path):
    tensors = {"fc.weight": KINDS[kind](), "fc.bias": torch.ones(3)}
    torch.save(tensors, tmp_path / "w.pth")
    for source in (tensors, tmp_path / "w.pth"):
        with pytest.raises(UserError, match=f"fc.weight {kind}"):
            read_state_dict(source)
