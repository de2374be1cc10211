"""A model that is trained by a loop of one's own: only its parameters are learned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxvision
from jaxvision.errors import UserError

RATES = {"drop_rate": 0.3, "drop_path_rate": 0.3}
IMAGES = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
LABELS = jnp.arange(4)


def make(name="resnet10t", **options):
    return jaxvision.create_model(name, num_classes=4, image_size=32, key=jax.random.key(0), **options)


def loss(model, images, labels, key):
    logits, model = model.train(images, key=key)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), model


def leaves_equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_logits_statistics_and_gradients_of_training_are_those_of_the_module():
    model, key = make(**RATES), jax.random.key(5)
    dropout, drop_path = jax.random.split(key)

    def by_hand(params):
        variables = {"params": params, "batch_stats": model.batch_stats}
        rngs = {"dropout": dropout, "drop_path": drop_path}
        logits, updated = model.module.apply(variables, IMAGES, train=True, rngs=rngs, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean(), updated.get("batch_stats", {})

    (expected, stats), expected_gradients = jax.jit(jax.value_and_grad(by_hand, has_aux=True))(model.params)
    ours = jax.jit(jaxvision.value_and_grad(loss, has_aux=True))
    (value, trained), gradients = ours(model, IMAGES, LABELS, key)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for mine, theirs in ((trained.batch_stats, stats), (gradients, expected_gradients)):
        assert jax.tree.structure(mine) == jax.tree.structure(theirs)
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert leaves_equal(trained.params, model.params)
    moved = jax.tree.map(lambda a, b: bool((a != b).all()), trained.batch_stats, model.batch_stats)
    assert all(jax.tree.leaves(moved))


def test_a_network_without_statistics_trains_alike():
    model = make("vit_tiny_patch16_224")
    logits, trained = jax.eval_shape(lambda model, key: model.train(IMAGES, key=key), model, jax.random.key(0))
    assert logits.shape == (4, 4) and jax.tree.structure(trained) == jax.tree.structure(model)


def test_another_key_drops_other_branches():
    model = make(**RATES)
    first, again, other = (model.train(IMAGES, key=jax.random.key(seed))[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.allclose(first, other)


def test_a_gradient_of_the_whole_model_is_refused():
    """Its statistics would move with the optimizer, and the network would learn nothing, silently."""
    model = make()
    losses = (lambda model: model(IMAGES).sum(), lambda model: model.train(IMAGES, key=jax.random.key(0))[0].sum())
    for of in losses:
        with pytest.raises(UserError, match=r"write jaxvision.value_and_grad\(loss\)\(model\)"):
            jax.grad(of)(model)
    # Gradients of images, and of parameters in evaluation mode, are no gradients of the statistics.
    assert np.isfinite(jax.grad(lambda x: model(x).sum())(IMAGES)).all()
    value, gradients = jaxvision.value_and_grad(lambda model: model(IMAGES).sum())(model)
    assert np.isfinite(value) and jax.tree.structure(gradients) == jax.tree.structure(model.params)


def test_models_stay_pytrees():
    """For an average of models, a batch of models, and jit."""
    a, b = make(), make().with_classifier(4, key=jax.random.key(3))
    mean = jax.tree.map(lambda x, y: (x + y) / 2, a, b)
    assert np.isfinite(jax.jit(lambda model: model(IMAGES))(mean)).all()
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), a, b)
    logits = jax.vmap(lambda model: model(IMAGES))(both)
    np.testing.assert_allclose(logits[1], b(IMAGES), rtol=1e-4, atol=1e-5)


def test_a_model_is_described_in_one_line():
    assert repr(make()) == "Model(resnet10t: 4.92 M parameters, 4 classes, 3 channels of any size)"
    vit = make("vit_tiny_patch16_224")
    assert "4 classes, 3 channels of 32x32)" in repr(vit) and repr(jaxvision.fuse(make())).endswith(", fused)")
    assert "4 classes, 1 channel of any size" in repr(make(in_chans=1))
    assert jax.tree.map(repr, make(), is_leaf=lambda leaf: True).startswith("Model(resnet10t")


def test_a_seed_is_no_key_and_no_class_is_no_classifier():
    with pytest.raises(UserError, match=r"key = 0: pass jax.random.key\(0\)"):
        jaxvision.create_model("resnet10t", key=0)
    for wrong in (0, np.int64(0), None, jax.random.split(jax.random.key(0))):
        for call in (make().with_classifier, lambda count, key: make().train(IMAGES, key=key)):
            with pytest.raises(UserError, match=r"key = .*: pass jax.random.key\("):
                call(3, key=wrong)
    assert make().with_classifier(3, key=jax.random.PRNGKey(0)).num_classes == 3
    for wrong in (0, -1, "10"):
        with pytest.raises(UserError, match=f"num_classes = {wrong!r}: pass a number of at least 1"):
            make().with_classifier(wrong, key=jax.random.key(0))
    with pytest.raises(UserError, match=r"num_classes = 0: .*for pooled features call model.embed"):
        jaxvision.create_model("resnet10t", num_classes=0, key=jax.random.key(0))


def test_sizes_and_types_that_do_not_fit_are_refused_at_once():
    for wrong in ("224", (1, 2, 3), 32.0):
        with pytest.raises(UserError, match=r"image_size = .*: pass pixels of a side, 224, or \(height, width\)"):
            jaxvision.create_model("vit_tiny_patch16_224", image_size=wrong, key=jax.random.key(0))
    for wrong in (250, 8, 0):
        with pytest.raises(UserError, match=f"at least 16x16 pixels and multiples of 16, got {wrong}x{wrong}"):
            make("vit_tiny_patch16_224").with_image_size(wrong)
    for wrong in (jnp.int32, "bfloat"):
        with pytest.raises(UserError, match=r"dtype = .*: pass a floating-point type"):
            make(dtype=wrong)
    calls = (jaxvision.to_torch, jaxvision.fuse, jaxvision.compile, jaxvision.to_nnx, jaxvision.value_and_grad(loss))
    for call in (*calls, lambda model: jaxvision.load_weights(model, {})):
        with pytest.raises(UserError, match=r"a Model, as jaxvision.create_model returns, .*got a dict"):
            call({})


def test_a_fused_model_and_wrong_images_are_refused_in_training_too():
    model = make()
    with pytest.raises(UserError, match="a fused model cannot be trained"):
        jaxvision.fuse(model).train(IMAGES, key=jax.random.key(0))
    with pytest.raises(UserError, match="torch's NCHW"):
        model.train(IMAGES.transpose(0, 3, 1, 2), key=jax.random.key(0))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 64, 64, 3), r"got a torch.Tensor: write model\(numpy.asarray\(images\)\)"),
        ("cat.jpg", r"got a str: write model\(jaxvision.preprocess\(model\)\(images\)\)"),
        ([np.zeros((64, 64, 3), np.float32)], "got a list: write"),
        (np.zeros((0, 64, 64, 3), np.float32), "at least one image, got none"),
    ],
)
def test_images_are_an_array(images, message):
    for call in (make(), make().features, make().embed, jaxvision.compile(make())):
        with pytest.raises(UserError, match=message):
            call(images)


def test_a_sharded_batch_trains_as_a_whole_one():
    model, key = make(), jax.random.key(0)
    step = jax.jit(jaxvision.value_and_grad(loss, has_aux=True))
    (expected, whole), gradients = step(model, IMAGES, LABELS, key)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    sharded = NamedSharding(mesh, PartitionSpec("data"))
    images, labels = jax.device_put((IMAGES, LABELS), sharded)
    replicated = jax.device_put(model, NamedSharding(mesh, PartitionSpec()))
    (value, trained), shared = step(replicated, images, labels, key)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for a, b in ((trained.batch_stats, whole.batch_stats), (shared, gradients)):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
    explicit = NamedSharding(jax.make_mesh((4,), ("data",), axis_types=(AxisType.Explicit,)), PartitionSpec("data"))
    with pytest.raises(UserError, match="axes are Auto, got Explicit ones"):
        model(jax.device_put(IMAGES, explicit))


def test_the_training_call_of_to_nnxs_docstring_is_a_step_of_the_model():
    model, key = make(), jax.random.key(1)
    scope = {"nnx": nnx, "module": jaxvision.to_nnx(model), "images": IMAGES, "key": key}
    (call,) = [line for line in jaxvision.to_nnx.__doc__.splitlines() if "train=True" in line]
    exec(call.strip(), scope)
    logits, trained = model.train(IMAGES, key=key)
    np.testing.assert_allclose(scope["logits"], logits, rtol=1e-2, atol=1e-3)
    assert not np.allclose(logits, model(IMAGES), rtol=1e-2, atol=1e-3)
    moved = jax.tree.leaves(nnx.state(scope["module"], nnx.BatchStat))
    before = jax.tree.leaves(model.batch_stats)
    for ours, theirs, old in zip(moved, jax.tree.leaves(trained.batch_stats), before, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)
        assert not np.allclose(ours, old, rtol=1e-2, atol=1e-4)
