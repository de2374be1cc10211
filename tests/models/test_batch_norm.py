"""Batch normalisation in training, the initial weights of ResNets, and what a Model does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from reference import random_images, relative_error, shallow, timm, timm_names, torch_gradients

import jaxvision
from jaxvision.models.layers import drop_path
from jaxvision.models.resnet import ResNet
from jaxvision.models.variables import init_variables
from tools.parity import compare_models as parity


def images(n: int = 4, size: int = 75, seed: int = 1) -> np.ndarray:
    return random_images((size, size), seed, n)


BATCH_NORM = [
    "resnet18", "resnet26t", "resnetrs50", "seresnext26d_32x4d", "resnest14d", "efficientnet_b0",
    "tf_efficientnetv2_b0",
]  # fmt: skip


@pytest.mark.parametrize(
    "name", [name if name == "resnet18" else pytest.param(name, marks=pytest.mark.zoo) for name in BATCH_NORM]
)
def test_training_gradients_and_statistics_match_timm_in_float64(name):
    """With batch statistics float32 proves nothing: timm's own float32 gradients are 1 to 58 % off its float64 ones."""
    x = images(4, 43).astype(np.float64)
    with jax.enable_x64(True):
        reference, model = shallow(name, num_classes=parity.CLASSES, dtype=jnp.float64)
        reference = reference.double()
        model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)
        expected, dx = torch_gradients(reference.train(), x)
        (grads, ours_dx), updated = parity.module_gradients(model.module, True, model.variables, x)
        ours, statistics = timm_names({"params": grads}), timm_names(updated)
        # The weights were rounded to float32, so 1e-6 is equality here.
        assert relative_error(ours_dx, dx) < 1e-5
        largest = max(np.abs(gradient).max() for gradient in expected.values())
        for key, gradient in expected.items():
            # A bias in front of another normalisation has no gradient but rounding.
            if np.abs(gradient).max() < 1e-12 * largest:
                assert np.abs(ours[key]).max() < 1e-12 * largest, key
            else:
                assert relative_error(ours[key], gradient) < 1e-5, key
        for key, buffer in reference.named_buffers():
            if "running" in key:
                assert relative_error(statistics[key], buffer.numpy()) < 1e-6, key


@pytest.mark.slow
def test_initial_weights_have_the_published_distributions():
    model = jaxvision.create_model("resnet50", key=jax.random.key(3))
    torch.manual_seed(0)
    for key, theirs in timm.create_model("resnet50").state_dict().items():
        if key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            continue
        ours = jaxvision.to_torch(model)[key]
        theirs = theirs.numpy()
        if theirs.std() == 0:
            np.testing.assert_array_equal(ours, theirs, err_msg=key)
        else:
            sigma = 5 / np.sqrt(theirs.size)
            assert abs(ours.std() / theirs.std() - 1) < 2 * sigma + 0.01, key
            assert abs(ours.mean()) < sigma * theirs.std() * 2, key

    rs = jaxvision.create_model("resnetrs50", key=jax.random.key(3)).variables["params"]
    weight = np.asarray(rs["layer3.0"]["conv2"]["weight"])
    fan_in = 256 * 9
    assert abs(weight.std() * np.sqrt(fan_in) - 1) < 0.01
    assert np.abs(weight).max() <= 2 / np.sqrt(fan_in) / 0.8796 * 1.001
    assert not np.any(rs["layer3.0"]["bn3"]["weight"])
    assert abs(np.asarray(rs["fc"]["weight"]).std() - 0.01) < 1e-4
    assert not np.any(rs["fc"]["bias"])
    # The same key gives the same weights; another gives others.
    again = jaxvision.create_model("resnetrs50", key=jax.random.key(3)).variables["params"]
    other = jaxvision.create_model("resnetrs50", key=jax.random.key(4)).variables["params"]
    np.testing.assert_array_equal(again["layer3.0"]["conv2"]["weight"], weight)
    assert np.abs(np.asarray(other["layer3.0"]["conv2"]["weight"]) - weight).max() > 0


def test_dropping_a_branch_keeps_its_mean():
    x = jnp.ones((4000, 1, 1, 2))
    y = drop_path(x, 0.25, jax.random.key(0))
    assert set(np.unique(np.asarray(y).round(5))) == {0.0, np.float32(1 / 0.75).round(5)}
    assert abs(float(y.mean()) - 1) < 0.05
    np.testing.assert_array_equal(y[..., 0], y[..., 1])


@pytest.mark.slow
def test_remat_and_groups_and_bfloat16():
    # With gates, which scale the normalisation's coefficients in training.
    small = functools.partial(ResNet, (1, 1, 0, 0), num_classes=5, stem="deep", avg_down=True, se_ratio=0.25)
    variables = init_variables(small(), jax.random.key(0))
    x = images(8, 40)

    def run(**kwargs):
        module = small(**kwargs)

        def loss(params):
            y, new = module.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
            return jnp.sum(y**2), (y, new)

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    grads, (y, _stats) = run()
    remat_grads, _ = run(remat=True)
    assert all(relative_error(a, b) < 1e-4 for a, b in zip(*map(jax.tree.leaves, (remat_grads, grads)), strict=True))

    # Statistics of groups equal those of each part of the batch run by itself.
    _, (grouped, _) = run(bn_groups=2)
    module = small()
    parts = [module.apply(variables, part, train=True, mutable=["batch_stats"])[0] for part in (x[:4], x[4:])]
    assert relative_error(grouped, np.concatenate(parts)) < 1e-4
    assert relative_error(grouped, y) > 1e-3

    _, (low, _) = run(dtype=jnp.bfloat16)
    assert low.dtype == jnp.float32
    assert 0 < relative_error(low, y) < 0.15


def test_classifier_and_in_chans():
    model = jaxvision.create_model("resnet18", key=jax.random.key(0), in_chans=1)
    x = images(2, 32)[..., :1]
    new = model.with_classifier(7, key=jax.random.key(1))
    assert new(x).shape == (2, 7) and new.num_classes == 7
    np.testing.assert_array_equal(new.embed(x), model.embed(x))
    jitted = jax.jit(lambda m, x: m(x))(new, x)
    assert relative_error(jitted, new(x)) < 1e-5


def test_errors_say_what_to_do():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r'unknown model .*Did you mean "resnetrs50"'):
        jaxvision.create_model("resnetrs5", key=key)
    with pytest.raises(ValueError, match=r"pass pretrained=True .* weights=FILE .* or key="):
        jaxvision.create_model("resnet18")
    model = jaxvision.create_model("resnet18", key=key, num_classes=3)
    with pytest.raises(ValueError, match="transpose"):
        model(np.zeros((1, 3, 32, 32), np.float32))
    with pytest.raises(ValueError, match=r"single image: .* images\[None\]"):
        model(np.zeros((32, 32, 3), np.float32))
    with pytest.raises(ValueError, match="uint8"):
        model(np.zeros((1, 32, 32, 3), np.uint8))
