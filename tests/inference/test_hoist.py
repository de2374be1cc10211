"""A program cut in two computes what the whole does, and its first part is what depends on the weights alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import relative_error

import jaxvision
from jaxvision.inference.hoist import hoist


def primitives(function, *args):
    return [str(equation.primitive) for equation in jax.make_jaxpr(function)(*args).eqns]


def test_weights_are_prepared_once():
    rng = np.random.default_rng(0)
    leaves = [rng.standard_normal((5, 3), np.float32), rng.standard_normal(5, np.float32)]
    images = rng.standard_normal((4, 8, 3), np.float32)
    constant = rng.standard_normal((5, 5), np.float32)

    def program(leaves, images):
        weight, bias = leaves
        weight = jnp.exp(constant @ weight).T
        spread = jnp.broadcast_to(bias, (4, 8, 5))  # larger than what it is made of: not worth keeping
        return nn.relu(images @ weight + spread) * jnp.ones((4, 8, 5))

    prepare, run = hoist(program, leaves, images)
    prepared = prepare(leaves)
    assert {p.shape for p in prepared} == {(3, 5), (5,)}
    # numpy would multiply the constant with the weight in an order of its own, and so round differently.
    expected = program(jax.tree.map(jnp.asarray, leaves), images)
    np.testing.assert_allclose(run(prepared, images), expected, rtol=1e-6)
    assert "exp" in primitives(prepare, leaves) and "transpose" in primitives(prepare, leaves)
    late = primitives(run, prepared, images)
    assert "exp" not in late and late.count("dot_general") == 1 and late.count("broadcast_in_dim") == 2


def test_split_matrices_stay_split():
    leaves, images = [np.ones((6, 3), np.float32)], np.ones((4, 3), np.float32)
    prepare, run = hoist(lambda leaves, x: sum(x @ w.T for w in jnp.split(2 * leaves[0], 3)), leaves, images)
    assert "mul" in primitives(prepare, leaves) and "split" in primitives(run, prepare(leaves), images)
    np.testing.assert_array_equal(run(prepare(leaves), images), np.full((4, 2), 18.0))


def test_what_goes_through_unchanged():
    prepare, run = hoist(lambda leaves, images: leaves[0], [np.ones(3), np.zeros(2)], np.ones(1))
    np.testing.assert_array_equal(run(prepare([np.full(3, 5.0), np.zeros(2)]), np.ones(1)), np.full(3, 5.0))


@pytest.mark.slow
def test_a_compiled_network_is_differentiable_and_takes_any_shape():
    model = jaxvision.create_model("resnet10t", num_classes=3, key=jax.random.key(0))
    classify = jaxvision.compile(model)
    x = np.random.default_rng(0).standard_normal((2, 64, 64, 3), np.float32)
    ours = jax.grad(lambda x: jnp.sum(jnp.sin(classify(x))))(x)
    assert relative_error(ours, jax.grad(lambda x: jnp.sum(jnp.sin(model(x))))(x)) < 1e-4
    for shape in [(1, 64, 64, 3), (2, 96, 32, 3), (3, 33, 47, 3)]:
        x = np.random.default_rng(1).standard_normal(shape, np.float32)
        assert relative_error(classify(x), model(x)) < 1e-4
        assert relative_error(jax.jit(lambda x: classify(x))(x), model(x)) < 1e-4


@pytest.mark.slow
def test_position_biases_are_gathered_once():
    model = jaxvision.create_model("swin_tiny_patch4_window7_224", num_classes=3, key=jax.random.key(0), image_size=56)
    images = jax.ShapeDtypeStruct((1, 56, 56, 3), jnp.float32)
    whole = jax.jit(lambda model, x: model(x)).lower(jaxvision.fuse(model), images).as_text()
    cut = jaxvision.compile(model).lower(images).as_text()
    assert cut.count("concatenate") < whole.count("concatenate")
