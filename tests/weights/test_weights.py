"""Checkpoints in and out: whose names, what may differ, and the message for everything that may not."""

import argparse
import os
import subprocess
import sys

import cli
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from reference import nchw, random_images, relative_error, shallow, timm, trained_like
from torchvision import models

import jaxvision
from jaxvision.errors import UserError
from tools import import_torch
from tools.shared import example


def state_of(name="resnet18", **kwargs):
    return {k: v.clone() for k, v in trained_like(name, **kwargs).state_dict().items()}


def outputs_equal(model, module, size):
    x = random_images((size, size), 0)
    with torch.no_grad():
        expected = module.eval()(nchw(x)).numpy()
    return relative_error(model(x), expected) < 1e-4


def randomised(module, seed=0):
    """A torchvision model with trained-like statistics and scales."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif key.endswith("running_mean") or key.endswith(("bias", "class_token", "pos_embedding", "bias_table")):
                tensor.normal_(0, 0.2)
            elif "layer_scale" in key:
                tensor.uniform_(0.2, 0.6)
    return module


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("theirs", "ours", "size"),
    [
        ("resnet18", "resnet18", 64),
        ("efficientnet_b0", "efficientnet_b0", 64),
        ("convnext_tiny", "convnext_tiny", 64),
        ("swin_t", "swin_tiny_patch4_window7_224", 224),
        ("vit_b_16", "vit_base_patch16_224", 224),
    ],
)
def test_torchvision_checkpoints_give_torchvisions_answers(theirs, ours, size):
    module = randomised(getattr(models, theirs)(num_classes=9))
    model = jaxvision.create_model(ours, weights=module.state_dict())
    assert model.num_classes == 9
    assert outputs_equal(model, module, size)


@pytest.mark.zoo
@pytest.mark.parametrize(("theirs", "ours"), [("efficientnet_v2_s", "efficientnetv2_s")])
def test_torchvisions_other_epsilon_is_absorbed(theirs, ours):
    module = randomised(getattr(models, theirs)(num_classes=9))
    with pytest.warns(UserWarning, match=r"BN epsilon is 0.001, this model's 1e-05"):
        model = jaxvision.create_model(ours, weights=module.state_dict())
    assert outputs_equal(model, module, 64)


@pytest.mark.slow
def test_names_of_the_original_repositories():
    """ConvNeXt's, Swin's and DeiT-III's own names, made from timm's by the inverse of timm's published mapping."""
    import re

    state = state_of("convnextv2_atto", num_classes=5)
    original = {}
    for key, value in state.items():
        key = re.sub(r"^stem\.", "downsample_layers.0.", key)
        key = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key)
        key = re.sub(r"^stages\.(\d)\.blocks\.", r"stages.\1.", key)
        key = key.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        if ".mlp.grn." in key:
            value = value.reshape(1, 1, 1, -1)
        key = key.replace("mlp.grn.weight", "grn.gamma").replace("mlp.grn.bias", "grn.beta")
        key = re.sub(r"^head\.norm\.", "norm.", key).replace("head.fc.", "head.")
        value = value.reshape(value.shape[:2]) if "pwconv" in key and value.ndim == 4 else value
        original[key] = value
    assert "stages.0.0.grn.gamma" in original and "norm.weight" in original
    expected = jaxvision.create_model("convnextv2_atto", weights=state)
    loaded = jaxvision.create_model("convnextv2_atto", weights={"model": original})
    assert_same(loaded, expected)
    assert set(timm.models.convnext.checkpoint_filter_fn(original, timm.create_model("convnextv2_atto"))) == set(state)

    name = "swin_tiny_patch4_window7_224"
    state = state_of(name, num_classes=5)
    original = {}
    for key, value in state.items():
        key = re.sub(r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key)
        original[key.replace("head.fc.", "head.")] = value
    original["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    original["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    assert_same(jaxvision.create_model(name, weights=original), jaxvision.create_model(name, weights=state))

    name = "deit3_small_patch16_224"
    state = state_of(name, num_classes=5)
    original = {re.sub(r"\.ls(\d)\.gamma$", r".gamma_\1", key): value for key, value in state.items()}
    assert_same(jaxvision.create_model(name, weights=original), jaxvision.create_model(name, weights=state))


def assert_same(a, b):
    for left, right in zip(jax.tree.leaves(a.variables), jax.tree.leaves(b.variables), strict=True):
        np.testing.assert_array_equal(left, right)


def test_wrappers_prefixes_and_file_kinds(tmp_path):
    from safetensors.torch import save_file

    state = state_of()
    expected = jaxvision.create_model("resnet18", weights=state)
    prefixed = {f"module.{k}": v for k, v in state.items()}
    args = argparse.Namespace(lr=0.1)
    for i, content in enumerate(
        [state, {"state_dict": prefixed, "epoch": 3}, {"model": state, "args": args}, {"state_dict_ema": state,
         "state_dict": state_of(seed=1)}, {"model": {f"module._orig_mod.{k}": v for k, v in state.items()}},
         {"model_state_dict": state, "optimizer_state_dict": {}},
         {"net": {f"backbone.{k}": v for k, v in state.items()}},
        {f"timm_model.{k}": v for k, v in state.items()},
         {"state_dict": {f"model.net.{k}": v for k, v in state.items()}, "callbacks": {}}]
    ):  # fmt: skip
        torch.save(content, tmp_path / f"{i}.pth")
        assert_same(jaxvision.create_model("resnet18", weights=tmp_path / f"{i}.pth"), expected)
    torch.save(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    assert_same(jaxvision.create_model("resnet18", weights=str(tmp_path / "legacy.bin")), expected)
    save_file(state, tmp_path / "a.safetensors")
    assert_same(jaxvision.create_model("resnet18", weights=tmp_path / "a.safetensors"), expected)
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    save_file(half, tmp_path / "half.safetensors")
    loaded = jaxvision.create_model("resnet18", weights=tmp_path / "half.safetensors")
    assert loaded.variables["params"]["fc"]["weight"].dtype == np.float32
    np.testing.assert_array_equal(loaded.variables["params"]["fc"]["weight"], half["fc.weight"].float().numpy())


def test_another_number_of_classes():
    state = state_of()
    assert jaxvision.create_model("resnet18", weights=state_of(num_classes=7)).num_classes == 7
    with pytest.raises(UserError, match=r"the file has 1000 classes and num_classes is 7: pass key="):
        jaxvision.create_model("resnet18", weights=state, num_classes=7)
    said_once = r"^weights adapted: the file has 1000 classes, the model 7: fresh classifier \(fc\)$"
    with pytest.warns(UserWarning, match=said_once):
        model = jaxvision.create_model("resnet18", weights=state, num_classes=7, key=jax.random.key(5))
    fresh = jaxvision.create_model("resnet18", num_classes=7, key=jax.random.key(5))
    np.testing.assert_array_equal(model.variables["params"]["fc"]["weight"], fresh.variables["params"]["fc"]["weight"])
    np.testing.assert_array_equal(model.variables["params"]["bn1"]["bias"], state["bn1.bias"])
    with pytest.warns(UserWarning, match=r"the model 7: it keeps its classifier \(head, head_dist\)$"):
        jaxvision.load_weights(
            jaxvision.create_model("deit_tiny_distilled_patch16_224", num_classes=7, key=jax.random.key(5)),
            state_of("deit_tiny_distilled_patch16_224", num_classes=3),
        )


@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet18", 1), ("resnet18", 4), ("resnet18", 7), ("efficientnet_b0", 7), ("vit_tiny_patch16_224", 7)],
)
def test_another_number_of_channels_as_timm_adapts(name, channels):
    from timm.models._manipulate import adapt_input_conv

    state = state_of(name, num_classes=5)
    with pytest.warns(UserWarning, match=f"takes 3 input channels, the model {channels}"):
        model = jaxvision.create_model(name, weights=state, in_chans=channels)
    exported = jaxvision.to_torch(model)
    changed = [key for key in exported if key in state and exported[key].shape != tuple(state[key].shape)]
    assert len(changed) == 1
    np.testing.assert_allclose(exported[changed[0]], adapt_input_conv(channels, state[changed[0]]), rtol=1e-6)


def test_all_problems_in_one_message():
    model = jaxvision.create_model("resnet18", key=jax.random.key(0), num_classes=3)
    state = jaxvision.to_torch(model)
    state["surplus"] = state.pop("fc.bias")
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"][:2]
    with pytest.raises(UserError) as error:
        jaxvision.load_weights(model, state)
    for part in (
        "3 problems", "unknown key surplus (3,)", "missing key fc.bias (3,)",
        "shape of layer1.0.conv1.weight: expected (64, 64, 3, 3), file has (2, 64, 3, 3)",
    ):  # fmt: skip
        assert part in str(error.value)
    state = jaxvision.to_torch(model)
    state["fc.weight"] = state["fc.weight"][:2]
    with pytest.raises(UserError, match=r"disagrees with itself .* fc.bias \(3,\), fc.weight \(2, 512\)"):
        jaxvision.load_weights(model, state)
    with pytest.raises(UserError, match=r"\.\.\. and \d+ more"):
        jaxvision.load_weights(model, state_of("resnet50"))
    with pytest.raises(UserError, match="no weights found"):
        jaxvision.load_weights(model, {"epoch": 3, "lr": 0.1})


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_values_that_are_not_finite_are_refused_by_name():
    state = state_of()
    state["bn1.running_var"][3] = float("nan")
    state["fc.weight"][:2, 0] = float("inf")
    with pytest.raises(UserError, match="2 problems") as caught:
        jaxvision.create_model("resnet18", weights=state)
    assert "bn1.running_var: 1 of 64 values are not finite" in str(caught.value)
    assert f"fc.weight: 2 of {state['fc.weight'].numel()} values are not finite" in str(caught.value)


def test_files_that_are_no_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = jaxvision.create_model("resnet18", key=jax.random.key(0))
    torch.save({"state_dict": state_of(), "hook": Evil()}, tmp_path / "evil.pth")
    good = tmp_path / "good.pth"
    torch.save(state_of(), good)
    (tmp_path / "cut.pth").write_bytes(good.read_bytes()[:100_000])
    from safetensors.torch import save_file

    save_file(state_of(), tmp_path / "good.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:1_000_000])
    (tmp_path / "short.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:100])
    (tmp_path / "text.pth").write_text("hello, these are no weights")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>404</html>")
    (tmp_path / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pth")
    messages = {
        "evil.pth": r"refused: besides tensors it holds pickled code .*system",
        "cut.pth": "damaged or truncated",
        "cut.safetensors": r"truncated: 1000000 bytes, its header announces",
        "short.safetensors": "truncated: 100 bytes",
        "text.pth": "is text; expected weights",
        "page.pth": "is a web page",
        "lfs.safetensors": "git-lfs pointer",
        "empty.pth": "an empty file",
        "list.pth": "holds a list, expected a state dict",
        "absent.pth": "not found",
        ".": "is a folder",
    }
    for file, message in messages.items():
        with pytest.raises(UserError, match=message):
            jaxvision.load_weights(model, tmp_path / file)
    assert not (tmp_path / "pwned").exists()


def test_fused_models_neither_load_nor_export_nor_train():
    model = jaxvision.create_model("resnet18", num_classes=3, key=jax.random.key(0))
    fused = jaxvision.fuse(model)
    assert jaxvision.fuse(fused) is fused
    assert not fused.variables["batch_stats"]
    with pytest.raises(UserError, match=r"before jaxvision\.fuse"):
        jaxvision.to_torch(fused)
    with pytest.raises(UserError, match="load them first"):
        jaxvision.load_weights(fused, jaxvision.to_torch(model))
    with pytest.raises(ValueError, match="cannot be trained"):
        fused.module.apply(fused.variables, random_images((32, 32), 0), train=True)
    # Nothing to fold: the network stays as it is.
    vit = jaxvision.create_model("vit_tiny_patch16_224", num_classes=3, image_size=32, key=jax.random.key(0))
    assert_same(jaxvision.fuse(vit), vit)


def tool(name, *args):
    command = [sys.executable, f"tools/{name}.py", *map(str, args)]
    return subprocess.run(command, env=cli.environment(quick=True), cwd=cli.ROOT, capture_output=True, text=True)


@pytest.mark.program
def test_import_tool_both_ways(tmp_path, monkeypatch, capsys):
    state = state_of("resnet10t", num_classes=5)
    torch.save({"state_dict": state}, tmp_path / "in.pth")
    result = tool("import_torch", "resnet10t", "--weights", tmp_path / "in.pth", "--out", tmp_path / "o.safetensors")
    assert result.returncode == 0, result.stderr
    assert "5 classes" in result.stdout and "from float64 (relative to the largest), timm's" in result.stdout
    args = ["--reverse", "--weights", tmp_path / "o.safetensors", "--out", tmp_path / "back.pth"]
    result = tool("import_torch", "resnet10t", *args)
    assert result.returncode == 0, result.stderr
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    timm.create_model("resnet10t", num_classes=5).load_state_dict(back, strict=True)
    for key, value in state.items():
        assert torch.equal(back[key], value), key

    for name, out, message in (("resnet14t", "x.safetensors", "problems with the weights"),
                               ("resnet10t", "x.onnx", ".safetensors, .pth")):  # fmt: skip
        arguments = ["import_torch", name, "--weights", tmp_path / "in.pth", "--out", tmp_path / out]
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        assert import_torch.main() == 2
        assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back.pth", "in.pth", "o.safetensors"]


@pytest.mark.slow
def test_the_import_tool_tells_an_error_from_rounding():
    """A network that was really trained, whose logits on white noise are far from float64 in torch, too."""
    model = jaxvision.create_model("tf_efficientnet_lite0", weights=example.weights())
    state = jaxvision.to_torch(model)
    ours, theirs = import_torch.float64_distances(model, state)
    assert 0 < ours < 1e-5 and 0 < theirs < 1e-5
    wrong = state | {"blocks.3.1.bn2.running_var": state["blocks.3.1.bn2.running_var"] * np.float32(1.01)}
    assert import_torch.float64_distances(model, wrong)[0] > 1e-4


@pytest.mark.program
def test_the_import_tool_refuses_an_error(tmp_path, monkeypatch, capsys):
    torch.save(state_of("resnet10t", num_classes=5), tmp_path / "in.pth")
    for ours, status in ((3e-4, 0), (5e-4, 2)):  # where timm's own logits are 1e-4 off
        monkeypatch.setattr(import_torch, "float64_distances", lambda *_, ours=ours: (ours, 1e-4))
        arguments = ["resnet10t", "--weights", tmp_path / "in.pth", "--out", tmp_path / f"{status}.safetensors"]
        assert import_torch.main(list(map(str, arguments))) == status
        assert (tmp_path / f"{status}.safetensors").exists() == (status == 0)
    assert "too large to be rounding" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["resnet10t", pytest.param("convnext_atto", marks=pytest.mark.zoo), "vit_tiny_patch16_224"]
)
def test_fusing_stores_weights_in_the_compute_dtype(name):
    """Against the folded float32 variables, which the modules cast on every call, to within bfloat16's rounding."""
    from jaxvision.inference import fuse

    _, model = shallow(name, num_classes=5, size=(64, 64), dtype=jnp.bfloat16)
    fused = jaxvision.fuse(model)
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(fused.variables) if leaf.ndim > 1}
    assert "bfloat16" in kinds and kinds <= {"bfloat16", "float32"}
    large = [leaf for leaf in jax.tree.leaves(fused.variables) if leaf.ndim in (2, 4)]
    assert all(leaf.dtype == jnp.bfloat16 for leaf in large)
    folded = model.with_variables(fuse.fold(model.module, model.variables, 3))
    x = np.random.default_rng(0).standard_normal((2, 64, 64, 3), np.float32)
    wide = model.replace(module=model.module.clone(dtype=jnp.float32))
    # bfloat16 has 8 bits: an eps of 0.4 %.
    assert relative_error(fused(x), wide(x)) < 0.02 and relative_error(fused(x), folded(x)) < 0.01
