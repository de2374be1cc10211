"""tools/bench/exported.py: its table."""

from tools.bench import exported
from tools.bench.rounds import Row


def test_a_row_compares_with_timms_faster_variant_and_shows_errors():
    seconds = {
        "onnx runtime": [0.02, 0.01, 0.03], "jaxvision compiled+keep": [0.04],
        "timm eager+keep": [0.05, 0.05], "timm compile+keep": [0.01],
    }  # fmt: skip
    row = Row("resnet50", "infer", 32, 224, "float32", {k: {"seconds_per_call": v} for k, v in seconds.items()})
    assert exported.cells(row) == ["resnet50", "32", "20.0", "40.0", "50.0", "10.0", "0.50"]
    row.variants["timm compile+keep"] = {"error": "no compiler"}
    assert exported.cells(row) == ["resnet50", "32", "20.0", "40.0", "50.0", "no compiler", "2.50"]
    row.variants["onnx runtime"]["error"] = "ended"
    assert exported.cells(row)[2::4] == ["ended", "-"]
