"""Calls of timm's: the same answers, or an error that says what to write here."""

import jax
import numpy as np
import pytest
import torch
from reference import nchw, random_images, relative_error, shallow, timm

import jaxvision
from jaxvision.errors import UserError

NETWORKS = ["resnet10t", "vit_tiny_patch16_224", "convnext_atto", "efficientnet_b0", "swin_tiny_patch4_window7_224",
            "convnext_tiny_hnf", "deit_tiny_distilled_patch16_224", "resnest14d"]  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_unpooled_features_and_the_head_are_timms(name):
    size = 64 if name.startswith("swin") else 32
    reference, model = shallow(name, num_classes=5, size=size)
    reference.eval()
    x = random_images((size, size), 0)
    with torch.no_grad():
        unpooled = reference.forward_features(nchw(x))
        pooled = reference.forward_head(unpooled, pre_logits=True)
        logits = reference.forward_head(unpooled)
    ours = model.forward_features(x)
    channels_first = unpooled.ndim == 4 and not name.startswith("swin")
    assert relative_error(ours, (unpooled.permute(0, 2, 3, 1) if channels_first else unpooled).numpy()) < 1e-4
    assert relative_error(model.forward_head(ours, True), pooled.numpy()) < 1e-4
    assert relative_error(model.forward_head(ours), logits.numpy()) < 1e-4
    assert relative_error(model.forward_head(ours), model(x)) < 1e-6


@pytest.mark.parametrize(("name", "expected"), [("resnet10t", "N, H', W', 512"), ("vit_tiny_patch16_224", "N, T, 192")])
def test_the_head_takes_no_images_and_a_compiled_model_has_none(name, expected):
    model = jaxvision.create_model(name, num_classes=5, image_size=32, key=jax.random.key(0))
    images = random_images((32, 32), 0)
    wrongs = [images, images.transpose(0, 3, 1, 2), images[0], model.embed(images), model.features(images)]
    if name.startswith("vit"):
        wrongs.append(model.features(images)[-1])  # a map has no class token
    for wrong in wrongs:
        message = rf"what model.forward_features\(images\) returned, \({expected}\), got .*call model\(images\)"
        with pytest.raises(UserError, match=message):
            model.forward_head(wrong)
    compiled = jaxvision.compile(model)
    with pytest.raises(
        AttributeError, match=r"no attribute 'forward_features': compiled\(images\) gives logits, .*lower"
    ):
        compiled.forward_features(images)
    unpooled = compiled.model.forward_features(images)
    assert relative_error(compiled.model.forward_head(unpooled), compiled(images)) < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_timms_and_described(name):
    size = 64 if name.startswith("swin") else 32
    reference, model = shallow(name, num_classes=5, size=size)
    reference.eval()
    x = random_images((size, size), 0)
    with torch.no_grad():
        expected = reference.forward_intermediates(nchw(x), intermediates_only=True)
    expected = [m.permute(0, 2, 3, 1).numpy() for m in expected]
    maps, info = model.features(x), model.feature_info
    skipped = len(expected) - len(maps)  # timm counts the stem of an EfficientNet, too
    assert skipped == 0 and len(info) == len(maps)
    for ours, theirs, described in zip(maps, expected, info, strict=True):
        assert relative_error(ours, theirs) < 1e-4
        assert (described.num_chs, described.reduction) == (ours.shape[-1], size // ours.shape[1])
    np.testing.assert_allclose(model.features(x, indices=1)[0], maps[-1], rtol=1e-5, atol=1e-5)
    last, first = model.features(x, indices=[-1, 0])
    np.testing.assert_allclose(last, maps[-1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(first, maps[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match=rf"indices \[{len(maps)}\]: .* has the maps 0 to {len(maps) - 1}"):
        model.features(x, indices=(0, len(maps)))
    for wrong in (len(maps) + 1, 0, -1, (), "all", 1.5, (1.5,)):
        with pytest.raises(UserError, match=rf"has the maps 0 to {len(maps) - 1}, .*how many of the last"):
            model.features(x, indices=wrong)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "convnext_tiny", "vit_base_patch16_224",
                                  "swin_tiny_patch4_window7_224", "simple_vit_tiny_patch16_224"])  # fmt: skip
def test_feature_info_has_timms_names(name):
    """Those of timm's feature extractor."""
    info = jaxvision.create_model(name, key=jax.random.key(0)).feature_info
    if name.startswith("simple"):
        assert info[-1] == ("blocks.11", 192, 16)
        return
    theirs = timm.create_model(name, features_only=True).feature_info.info
    ours = [entry._asdict() for entry in info][-len(theirs) :]
    for a, b in zip(ours, theirs, strict=True):
        assert (a["num_chs"], a["reduction"]) == (b["num_chs"], b["reduction"])
        assert a["module"].replace(".", "_") in b["module"].replace(".", "_")


@pytest.mark.parametrize("name", ["resnet50", "tf_efficientnet_b0", "convnext_tiny", "deit_small_patch16_224",
                                  "swinv2_tiny_window8_256", "resnest50d"])  # fmt: skip
def test_the_summary_counts_what_is_published(name):
    model = jaxvision.create_model(name, key=jax.random.key(0))
    lines = model.summary().splitlines()
    total, *counts = (line.split() for line in (lines[-1], *lines[4:-2]))
    number = lambda text: int(text.replace(",", ""))  # noqa: E731
    assert total[0] == "total" and number(total[-1]) / 1e9 == pytest.approx(model.spec.gmacs, abs=0.011)
    assert round(number(total[-2]) / 1e6, 2) == model.spec.params_m
    assert sum(number(line[-1]) for line in counts) == number(total[-1])
    assert f"1x{model.num_classes}" in lines[-3]


def test_the_summary_of_what_is_no_shape_of_images_is_refused():
    model = jaxvision.create_model("resnet10t", key=jax.random.key(0))
    for wrong, message in (
        (224, r"summary takes the shape of images, \(1, 224, 224, 3\)"),
        ((1, 3, 8, 8), "torch's NCHW"),
    ):
        with pytest.raises(UserError, match=message):
            model.summary(wrong)
    assert "2x4x4x64" in model.summary([2, 16, 16, 3])


def test_timms_names_are_answered_with_ours():
    key = jax.random.key(0)
    with pytest.raises(UserError, match=r"img_size: write image_size=\.\.\.; features_only: write model.features"):
        jaxvision.create_model("resnet10t", key=key, img_size=64, features_only=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'imgsize'"):
        jaxvision.create_model("resnet10t", key=key, imgsize=64)
    model = jaxvision.create_model("resnet10t", key=key)
    with pytest.raises(AttributeError, match=r"no attribute 'default_cfg': model.spec has the published settings"):
        model.default_cfg  # noqa: B018
    with pytest.raises(AttributeError, match=r"a Model has no attribute 'foo'$"):
        model.foo  # noqa: B018
    with pytest.raises(AttributeError, match=r"'create_transform': write jaxvision.preprocess\(model\)"):
        jaxvision.create_transform  # noqa: B018
    with pytest.raises(AttributeError, match=r"module 'jaxvision' has no attribute 'foo'$"):
        jaxvision.foo  # noqa: B018
    assert jaxvision.create_model("resnet10t", False, key=key).num_classes == 1000
    with pytest.raises(UserError, match=r'write the tag in the name, "resnet10t.TAG", and pretrained=True'):
        jaxvision.create_model("resnet10t", pretrained="c3_in1k")
    assert model.reset_classifier(3, key=key).num_classes == 3 and model.num_classes == 1000
    assert not hasattr(model, "state_dict") and jax.tree.map(lambda x: x, model).spec is model.spec


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet10t"])
def test_a_classifier_that_replaces_another_starts_within_timms_range(name):
    """Of timm's reset_classifier; an EfficientNet's first one depends on the number of classes alone."""
    reference = timm.create_model(name)
    reference.reset_classifier(4)
    weight = reference.get_classifier().weight.detach().numpy()
    key = jax.random.key(1)
    model = jaxvision.create_model(name, key=jax.random.key(0))
    with pytest.warns(UserWarning, match="fresh classifier"):
        filled = jaxvision.create_model(name, num_classes=4, weights=jaxvision.to_torch(model), key=key)
    head = "fc" if name == "resnet10t" else "classifier"
    for new in (filled, model.with_classifier(4, key=key)):
        values = np.asarray(new.params[head]["weight"])
        assert 0.5 < values.std() / weight.std() < 2
    with pytest.warns(UserWarning, match=r"it keeps its classifier \("):
        kept = jaxvision.load_weights(new, jaxvision.to_torch(model))
    np.testing.assert_array_equal(kept.params[head]["weight"], new.params[head]["weight"])


def test_adapted_weights_are_warned_of_at_the_callers_line():
    state = jaxvision.to_torch(jaxvision.create_model("resnet10t", num_classes=3, key=jax.random.key(0)))
    with pytest.warns(UserWarning, match="fresh classifier") as caught:
        jaxvision.create_model("resnet10t", num_classes=5, weights=state, key=jax.random.key(0))
    model = jaxvision.create_model("resnet10t", num_classes=5, key=jax.random.key(0))
    with pytest.warns(UserWarning, match="keeps its classifier") as loaded:
        jaxvision.load_weights(model, state)
    assert {warning.filename for warning in (*caught, *loaded)} == {__file__}
