"""config.deterministic reaches the compiler, and no program has an operation that a GPU cannot repeat."""

import re

import cli
import family_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_recipes import load

from jaxvision import config as config_lib
from jaxvision.ops import pooling
from jaxvision.ops.backend import lower_for
from jaxvision.train import build, inputs, sharding


@pytest.mark.program
@pytest.mark.parametrize("deterministic", [True, False])
def test_the_setting_reaches_the_compiler(deterministic, digits_dir, tmp_path):
    dumped = tmp_path / "dumped"
    command = cli.arguments(tmp_path / "run", digits_dir, deterministic=deterministic, steps=1)
    status, output = cli.run(command, quick=True, flags=f"--xla_dump_to={dumped} --xla_dump_hlo_module_re=.*train_step")
    assert status == 0, output
    options = [path.read_text() for path in dumped.glob("*debug_options*")]
    assert options, [path.name for path in dumped.iterdir()]
    assert all(("xla_gpu_deterministic_ops: true" in text) == deterministic for text in options)


def varying_sums(jaxpr):
    """Operations of a traced program whose sums of floating-point numbers a GPU adds up in any order.

    Under XLA's flag a select-and-scatter cannot be compiled, and a scatter that adds is slow. Integers may be added in
    any order, and single values written to places that differ.
    """
    return re.findall(r":(?:f|bf)\d+\[[\d,]*\] = (scatter-\w+|select_and_scatter\w*)\[", str(jaxpr))


def test_varying_sums_are_seen():
    x = jnp.ones((1, 8, 8, 2))
    pooled = jax.grad(lambda x: pooling.max_pool_3x3.portable(x).sum())
    assert varying_sums(jax.make_jaxpr(pooled)(x)) == ["select_and_scatter_add"]
    gathered = jax.grad(lambda x: x[:, jnp.array([1, 1])].sum())
    assert varying_sums(jax.make_jaxpr(gathered)(x)) == ["scatter-add"]


@pytest.mark.parametrize("name", family_cases.FAMILIES)
def test_no_gradient_is_added_up_in_a_varying_order(name):
    module, variables, images = family_cases.network(name)

    def loss(params):
        logits, _ = module.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )  # fmt: skip
        return jnp.sum(jnp.sin(logits))

    with lower_for("gpu"):
        assert not varying_sums(jax.make_jaxpr(jax.grad(loss))(variables["params"]))


def test_the_step_around_the_network_repeats_too(digits_dir):
    """Augmentation, mixing, loss, gradients, optimizer and EMA of the recipe that has most of them."""
    c = load("resnet50_a2", "digits")
    c.data.dir, c.model.name, c.steps = str(digits_dir), "resnet10t", 3
    c = config_lib.resolve(c)
    source, mesh = inputs.open_train(c), sharding.make_mesh()
    network = build.build_network(c, source)
    with lower_for("gpu"):
        state, optimizer = build.initial_state(c, network, mesh)
        batch = jax.ShapeDtypeStruct((c.batch_size, c.model.image_size, c.model.image_size, 3), np.uint8)
        augment = build.augment_program(c, network, mesh)
        images, labels = jax.eval_shape(augment, batch, np.int32(0)), jax.ShapeDtypeStruct((c.batch_size,), np.int32)
        step = build.train_program(c, network, optimizer, build.lengths(c, len(source)), mesh)
        traced = [augment.trace(batch, np.int32(0)), step.trace(state, images, labels, None)]
    assert [varying_sums(program.jaxpr) for program in traced] == [[], []]
