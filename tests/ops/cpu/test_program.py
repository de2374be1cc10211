"""The options that programs are compiled with on a CPU."""

import pytest

from jaxvision.models.registry import build_module
from jaxvision.ops.program import compiler_options

FLAG = "xla_cpu_experimental_ynn_fusion_type"


def test_ynnpack_is_off_in_convolutional_inference_and_sums_in_its_training():
    assert compiler_options(attends=False)[FLAG] == ""
    assert compiler_options(attends=False, train=True)[FLAG] == "LIBRARY_FUSION_TYPE_REDUCE"
    assert FLAG not in compiler_options(attends=True)


@pytest.mark.parametrize(
    ("name", "attends"),
    [("resnet10t", False), ("swin_tiny_patch4_window7_224", True), ("simple_vit_tiny_patch16_224", True)],
)
def test_a_network_says_whether_it_attends(name, attends):
    assert build_module(name).attends == attends
