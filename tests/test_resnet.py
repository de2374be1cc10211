"""ResNet family against timm: same weights, same logits, features, gradients and BN statistics."""

import csv
import functools
import importlib.resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from reference import relative_error, timm, trained_like

import jaxvision
from jaxvision.model import build_module, init_variables
from jaxvision.models.resnet import ResNet

# One per variant switch: basic and bottleneck, -D, -T, -C/-S stems, SE, groups, RS.
SWITCHES = ["resnet18", "resnet26t", "resnet34d", "resnet50", "resnet50s", "resnetrs50", "seresnext26d_32x4d"]
LABELS = np.array([0, 3, 7, 10])
SIZE = 75  # odd at several stages: exercises padding and ceil-mode pooling


def images(n: int = 4, size: int = SIZE, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, size, size, 3), np.float32)


def torch_gradients(reference: torch.nn.Module, x: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    reference.zero_grad()
    tx = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_(True)
    torch.nn.functional.cross_entropy(reference(tx), torch.from_numpy(LABELS)).backward()
    grads = {key: parameter.grad.numpy() for key, parameter in reference.named_parameters()}
    return grads, tx.grad.permute(0, 2, 3, 1).numpy()


@functools.partial(jax.jit, static_argnums=(0, 1))
def module_gradients(module, train, variables, x):
    def loss(params, x):
        logits, updated = module.apply({**variables, "params": params}, x, train=train, mutable=["batch_stats"])
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * np.eye(11, dtype=logits.dtype)[LABELS], 1)), updated

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables["params"], x)


def gradients(model, x, *, train):
    (grads, dx), updated = module_gradients(model.module, train, model.variables, x)
    return timm_names({"params": grads}), dx, timm_names(updated)


def timm_names(tree):
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    values = {".".join(entry.key for entry in path[1:]): np.asarray(leaf) for path, leaf in flat}
    return {key: v.transpose(0, 3, 1, 2) if v.ndim == 4 else v for key, v in values.items()}


@pytest.mark.parametrize("name", SWITCHES)
def test_matches_timm(name):
    reference = trained_like(name, num_classes=11)
    x = images()
    state = {k: v.clone() for k, v in reference.state_dict().items()}
    model = jaxvision.create_model(name, num_classes=11, weights=state)

    reference.eval()
    tx = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        assert relative_error(model(x), reference(tx).numpy()) < 1e-4
        pooled = reference.forward_head(reference.forward_features(tx), pre_logits=True)
        assert relative_error(model.embed(x), pooled.numpy()) < 1e-4
        maps = reference.forward_intermediates(tx, indices=[1, 2, 3, 4], intermediates_only=True)
    for ours, theirs in zip(model.features(x), maps, strict=True):
        assert relative_error(ours, theirs.permute(0, 2, 3, 1).numpy()) < 1e-4

    # Gradients with running statistics, float32. An activation within rounding of a ReLU's kink may fall to the other
    # side and change them by percents in either framework; a wrong formula would be wrong on every input.
    errors = []
    for seed in range(3):
        x = images(4, 33, seed)
        expected, dx = torch_gradients(reference, x)
        ours, ours_dx, _ = gradients(model, x, train=False)
        errors.append(max(relative_error(ours_dx, dx), *(relative_error(ours[k], g) for k, g in expected.items())))
        if errors[-1] < 1e-3:
            return
    raise AssertionError(f"gradient errors on three inputs: {errors}")


@pytest.mark.parametrize("name", ["resnet18", "resnet26t", "resnetrs50", "seresnext26d_32x4d"])
def test_training_gradients_and_statistics_match_timm_in_float64(name):
    """With batch statistics float32 proves nothing: timm's own float32 gradients are 1 to 58 % off its float64 ones."""
    reference = trained_like(name, num_classes=11).double()
    x = images(4, 43).astype(np.float64)
    with jax.enable_x64(True):
        model = jaxvision.create_model(name, num_classes=11, weights=reference.state_dict(), dtype=jnp.float64)
        model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)
        expected, dx = torch_gradients(reference.train(), x)
        ours, ours_dx, statistics = gradients(model, x, train=True)
        # Weights travelled as float32, so 1e-6 is equality here.
        assert relative_error(ours_dx, dx) < 1e-5
        for key, gradient in expected.items():
            assert relative_error(ours[key], gradient) < 1e-5, key
        for key, buffer in reference.named_buffers():
            if "running" in key:
                assert relative_error(statistics[key], buffer.numpy()) < 1e-6, key


@pytest.mark.parametrize("name", jaxvision.list_models("*res*"))
def test_every_name_has_timms_tensors(name):
    """Construction without allocation: names and shapes of every tensor, and the published parameter count."""
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in timm.create_model(name).state_dict().items()}
    module = build_module(name)
    shapes = jax.eval_shape(lambda k: module.init(k, jnp.zeros((1, 64, 64, 3)), train=False), jax.random.key(0))
    ours = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        key = ".".join(str(entry.key) for entry in path[1:] if hasattr(entry, "key"))
        shape = leaf.shape
        ours[key] = (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape
    assert ours == {k: v for k, v in expected.items() if not k.endswith("num_batches_tracked")}
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))
    assert round(count / 1e6, 2) == jaxvision.model_spec(name).params_m


def test_initialisation_follows_the_published_laws():
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


def test_stochastic_depth_laws():
    plain = build_module("resnet50", drop_path_rate=0.3)._drop_path_rates()
    torch_rates = [b.drop_path.drop_prob if b.drop_path else 0.0 for s in range(1, 5)
                   for b in getattr(timm.create_model("resnet50", drop_path_rate=0.3), f"layer{s}")]  # fmt: skip
    np.testing.assert_allclose([r for stage in plain for r in stage], torch_rates, rtol=1e-6)
    rs = build_module("resnetrs200", drop_path_rate=0.1)._drop_path_rates()
    assert [len(s) for s in rs] == [3, 24, 36, 3]
    np.testing.assert_allclose([s[0] for s in rs], [0.04, 0.06, 0.08, 0.10])
    assert all(len(set(stage)) == 1 for stage in rs)


def test_blocks_drop_independently_and_keep_the_mean():
    """Each block has its own mask: two equal blocks do not drop the same samples."""
    from jaxvision.models.layers import drop_path

    x = jnp.ones((4000, 1, 1, 2))
    y = drop_path(x, 0.25, jax.random.key(0))
    assert set(np.unique(np.asarray(y).round(5))) == {0.0, np.float32(1 / 0.75).round(5)}
    assert abs(float(y.mean()) - 1) < 0.05
    np.testing.assert_array_equal(y[..., 0], y[..., 1])

    module = build_module("resnet18", num_classes=3, drop_path_rate=0.5)
    masks = []

    def spy(next_fun, args, kwargs, context):
        if context.module.__class__.__name__ == "Block":
            masks.append(np.asarray(jax.random.bernoulli(context.module.make_rng("drop_path"), 0.5, (64,))))
        return next_fun(*args, **kwargs)

    import flax.linen as nn

    model = jaxvision.create_model("resnet18", num_classes=3, key=jax.random.key(0))
    with nn.intercept_methods(spy):
        module.apply(model.variables, images(2, 33), train=True, mutable=["batch_stats"],
                     rngs={"drop_path": jax.random.key(1)})  # fmt: skip
    masks = [m for i, m in enumerate(masks) if not any((m == other).all() for other in masks[:i])]
    assert len(masks) >= 8


def test_remat_and_groups_and_bfloat16():
    small = functools.partial(ResNet, (1, 1, 0, 0), num_classes=5, stem="deep", avg_down=True)
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

    # Grouped statistics equal running each part of the batch by itself.
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
    with pytest.raises(ValueError, match="either key="):
        jaxvision.create_model("resnet18")
    model = jaxvision.create_model("resnet18", key=key, num_classes=3)
    with pytest.raises(ValueError, match="transpose"):
        model(np.zeros((1, 3, 32, 32), np.float32))
    with pytest.raises(ValueError, match="uint8"):
        model(np.zeros((1, 32, 32, 3), np.uint8))
    state = jaxvision.to_torch(model)
    state["surplus"] = state.pop("fc.bias")
    state["fc.weight"] = state["fc.weight"][:2]
    with pytest.raises(ValueError) as error:
        jaxvision.load_weights(model, state)
    for part in ("3 problems", "unknown key surplus", "missing key fc.bias", "shape of fc.weight"):
        assert part in str(error.value)


def test_export_loads_strictly_into_timm_and_round_trips(tmp_path):
    model = jaxvision.create_model("seresnext26d_32x4d", num_classes=4, key=jax.random.key(0))
    state = jaxvision.to_torch(model)
    reference = timm.create_model("seresnext26d_32x4d", num_classes=4)
    reference.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()}, strict=True)
    x = images(2, 64)
    with torch.no_grad():
        assert (
            relative_error(model(x), reference.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()) < 1e-4
        )
    torch.save({"state_dict": {f"module.{k}": v for k, v in reference.state_dict().items()}}, tmp_path / "m.pth")
    again = jaxvision.create_model("seresnext26d_32x4d", num_classes=4, weights=tmp_path / "m.pth")
    for a, b in zip(*map(jax.tree.leaves, (again.variables, model.variables)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_specs_table_is_complete():
    rows = list(
        csv.DictReader(importlib.resources.files("jaxvision.models").joinpath("specs.csv").read_text().splitlines())
    )
    assert len({r["name"] for r in rows}) == len(rows)
    spec = jaxvision.model_spec("resnetrs50")
    assert (spec.input_size, spec.test_input_size, spec.crop_pct, spec.top1) == (160, 224, 0.91, 77.858)
