"""Each implementation of attention against PyTorch's, with its gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.ops.attention import dot_product_attention
from jaxvision.ops.backend import lower_for
from tools.parity.reference import torch

# of q, k and v, and of the bias
SHAPES = [
    ((3, 17, 2, 8), None),
    ((3, 17, 2, 8), (2, 17, 17)),
    ((2, 4, 9, 3, 8), (3, 9, 9)),
    ((2, 4, 9, 3, 8), (4, 3, 9, 9)),
]


def _arrays(shape: tuple[int, ...], bias_shape: tuple[int, ...] | None) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    inputs = [3 * rng.standard_normal(s) for s in (shape, shape, shape, bias_shape) if s]
    return inputs, rng.standard_normal(shape)


def _reference(inputs: list[np.ndarray], g: np.ndarray, scale: float | None) -> list[np.ndarray]:
    """The result and its gradients by the inputs, in float64."""
    leaves = [torch.from_numpy(part).requires_grad_() for part in inputs]
    q, k, v = (part.transpose(-3, -2) for part in leaves[:3])
    mask = leaves[3] if len(leaves) > 3 else None
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).transpose(-3, -2)
    out.backward(torch.from_numpy(g))
    return [out.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(("shape", "bias_shape"), SHAPES)
@pytest.mark.parametrize("scale", [None, 1.0])
def test_attention_and_its_gradients_equal_torch(
    backend: str, shape: tuple[int, ...], bias_shape: tuple[int, ...] | None, scale: float | None
) -> None:
    inputs, g = _arrays(shape, bias_shape)

    def run(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None = None) -> jax.Array:
        return dot_product_attention(q, k, v, bias, scale)

    with lower_for(backend):
        out, pull = jax.vjp(run, *(jnp.asarray(part, jnp.float32) for part in inputs))
        got = [out, *pull(jnp.asarray(g, jnp.float32))]
    for ours, theirs in zip(got, _reference(inputs, g, scale), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


def test_scores_that_overflow_an_exponential() -> None:
    inputs, g = _arrays((1, 5, 1, 4), None)
    inputs = [100 * part for part in inputs]  # scores of some 1e5
    got = dot_product_attention(*(jnp.asarray(part, jnp.float32) for part in inputs), None)
    np.testing.assert_allclose(got, _reference(inputs, g, None)[0], rtol=1e-4, atol=1e-2)


def test_bfloat16_attends_in_float32() -> None:
    inputs, g = _arrays((3, 64, 2, 8), None)
    rounded = [jnp.asarray(part, jnp.bfloat16) for part in inputs]
    got = dot_product_attention(*rounded, None)
    right = _reference([np.asarray(part, np.float64) for part in rounded], g, None)[0]
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(got, np.float32), right, atol=0.02 * np.abs(right).max())
