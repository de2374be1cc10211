"""The options that programs are compiled with on a CPU."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import jaxvision
from jaxvision.models.registry import build_module
from jaxvision.ops import program
from jaxvision.ops.cpu import onednn
from jaxvision.ops.program import compiler_options, inference

FLAG = "xla_cpu_experimental_ynn_fusion_type"


def test_ynnpack_is_off_in_convolutional_inference_and_sums_in_its_training():
    assert compiler_options(attends=False)[FLAG] == ""
    assert compiler_options(attends=False, train=True)[FLAG] == "LIBRARY_FUSION_TYPE_REDUCE"
    assert FLAG not in compiler_options(attends=True)


@pytest.mark.parametrize(("use_onednn", "few"), [(True, 4), (False, 8)])
def test_a_few_images_are_left_to_xlas_own_options(use_onednn, few, monkeypatch):
    model = jaxvision.create_model("resnet10t", num_classes=3, key=jax.random.key(0))
    classify = jaxvision.compile(model, use_onednn=use_onednn, compiler_options={"xla_cpu_enable_fast_math": False})
    given = []

    def recorded(how):
        return dataclasses.replace(
            how, jit=lambda run, compiler_options: given.append(compiler_options) or how.jit(run)
        )

    monkeypatch.setattr(classify, "_how", recorded(classify._how))
    of_few = recorded(program.Inference())
    monkeypatch.setattr(program, "Inference", lambda: of_few)
    for count in (few, few + 1):
        classify.lower(jax.ShapeDtypeStruct((count, 32, 32, 3), jnp.float32))
    assert given[0] == {"xla_cpu_enable_fast_math": False}
    assert given[1] == compiler_options(attends=False) | given[0]


def test_an_untested_jaxlib_is_told_once_for_inference(monkeypatch):
    monkeypatch.setattr(onednn, "TESTED", ("0.1",))
    monkeypatch.setattr(onednn, "available", onednn.available.__wrapped__)
    with pytest.warns(
        UserWarning, match=r"was not tested with oneDNN's convolutions, .* which are slower; tested are 0\.1$"
    ):
        assert not inference().uses_onednn
    assert not inference(use_onednn=False).uses_onednn  # without a warning


@pytest.mark.parametrize(
    ("name", "attends"),
    [("resnet10t", False), ("swin_tiny_patch4_window7_224", True), ("simple_vit_tiny_patch16_224", True)],
)
def test_a_network_says_whether_it_attends(name, attends):
    assert build_module(name).attends == attends
