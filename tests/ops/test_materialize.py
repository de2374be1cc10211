"""Materialized values are computed once, and equal those that are not, with their derivatives."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from reference import relative_error

from jaxvision.ops import convolution
from jaxvision.ops.backend import lower_for


def residual_stage(x, weights):
    for weight in weights:
        x = convolution.bias_add_act(x @ weight, None, x, nn.relu)
    return x


def test_a_residual_sum_is_computed_once_on_a_cpu():
    x, weights = jnp.ones((64, 512)), [jnp.ones((512, 512))] * 5
    program = jax.jit(residual_stage).lower(x, weights).compile().as_text()
    fused = re.findall(r"fusion\(([^)]*)\), kind", program)
    assert len(fused) >= 5 and max(names.count("%") for names in fused) <= 2, fused


def test_a_materialized_value_has_the_function_s_derivatives():
    rng = np.random.default_rng(0)
    x, *weights = [jnp.asarray(rng.standard_normal((6, 6), np.float32)) for _ in range(4)]

    def loss(backend):
        def of(x, weights):
            with lower_for(backend):
                return jnp.sum(jnp.sin(residual_stage(x, weights)))

        return jax.jit(jax.value_and_grad(of, (0, 1)))(x, weights)

    for ours, expected in zip(jax.tree.leaves(loss("cpu")), jax.tree.leaves(loss("gpu")), strict=True):
        assert relative_error(ours, expected) < 1e-6
    batched = jax.vmap(lambda x: residual_stage(x, weights))(jnp.stack([x, 2 * x]))
    assert relative_error(batched[1], residual_stage(2 * x, weights)) < 1e-6
