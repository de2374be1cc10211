"""cuDNN's attention: when it is called, with what, and what happens where it has no plan."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.ops.gpu import attention

PORTABLE = jax.nn.dot_product_attention


class Cudnn:
    """XLA's attention in cuDNN's place, with its rule about odd numbers; remembers how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool]] = []

    def __call__(self, q: jax.Array, k: jax.Array, v: jax.Array, bias: Any = None, **arguments: Any) -> jax.Array:
        if arguments.pop("implementation", None) != "cudnn":
            return PORTABLE(q, k, v, bias, **arguments)
        self.calls.append((q.shape[1], "query_seq_lengths" in arguments))
        return self._even_for_gradients(q, k, v, arguments)

    def _even_for_gradients(self, q: jax.Array, k: jax.Array, v: jax.Array, arguments: dict[str, Any]) -> jax.Array:
        @jax.custom_vjp
        def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
            return PORTABLE(q, k, v, **arguments)

        def forward(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
            if q.shape[1] % 2:
                raise NotImplementedError(f"Unsupported sequence length {q.shape[1]}")
            return jax.vjp(lambda q, k, v: PORTABLE(q, k, v, **arguments), q, k, v)

        attend.defvjp(forward, lambda pull, gradient: pull(gradient))
        return attend(q, k, v)


@pytest.fixture
def cudnn(monkeypatch: pytest.MonkeyPatch) -> Cudnn:
    """A machine with a GPU, as far as this module can tell."""
    fake = Cudnn()
    monkeypatch.setattr(attention.jax.nn, "dot_product_attention", fake)
    monkeypatch.setattr(attention.jax, "default_backend", lambda: "gpu")
    attention.has_plan.cache_clear()
    yield fake
    attention.has_plan.cache_clear()


def inputs(tokens: int, dtype: Any = jnp.bfloat16) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(0), 4)
    return [jax.random.normal(key, (3, tokens, 2, 8), jnp.float32).astype(dtype) for key in keys]


@pytest.mark.parametrize("tokens", [17, 16])
def test_only_training_adds_a_token_and_values_and_gradients_stay(cudnn, tokens):
    q, k, v, g = inputs(tokens)
    attend = jax.jit(lambda q, k, v: attention.cudnn_attention(q, k, v, None))
    out = attend(q, k, v)
    trial, cudnn.calls = cudnn.calls, []
    assert trial  # while the program was traced
    _, pull = jax.vjp(lambda q, k, v: attention.cudnn_attention(q, k, v, None), q, k, v)
    even = tokens + tokens % 2
    assert cudnn.calls == [(even, even != tokens)]
    expected, expected_pull = jax.vjp(PORTABLE, q, k, v)
    for ours, theirs in zip([out, *pull(g)], [expected, *expected_pull(g)], strict=True):
        assert ours.dtype == jnp.bfloat16
        wide = np.asarray(theirs, np.float32)
        np.testing.assert_allclose(np.asarray(ours, np.float32), wide, atol=0.01 * np.abs(wide).max())


def test_inference_adds_no_token(cudnn):
    q, k, v, _ = inputs(17)
    attention.has_plan(17, 2, 8, "bfloat16")
    cudnn.calls = []
    attention.cudnn_attention(q, k, v, None)
    assert cudnn.calls == [(17, False)]


def test_the_scale_reaches_it(cudnn):
    q, k, v, _ = inputs(16)
    ours = attention.cudnn_attention(q, k, v, None, 0.1)
    np.testing.assert_array_equal(ours, PORTABLE(q, k, v, scale=0.1))
    assert cudnn.calls


@pytest.mark.parametrize("case", ["float32", "bias", "windows"])
def test_what_it_is_not_for_goes_to_xla(cudnn, case):
    q, k, v, _ = inputs(16, jnp.float32 if case == "float32" else jnp.bfloat16)
    bias = jnp.ones((2, 16, 16), q.dtype) if case == "bias" else None
    if case == "windows":
        q, k, v = (part[None] for part in (q, k, v))
    assert attention.cudnn_attention(q, k, v, bias).shape == q.shape
    assert not cudnn.calls


def test_without_a_plan_xla_attends(cudnn, monkeypatch):
    def no_plan(*arguments: Any) -> None:
        raise RuntimeError("No valid execution plans")

    monkeypatch.setattr(cudnn, "_even_for_gradients", no_plan)
    q, k, v, _ = inputs(16)
    np.testing.assert_array_equal(attention.cudnn_attention(q, k, v, None), PORTABLE(q, k, v))
    assert not attention.has_plan(16, 2, 8, "bfloat16")


def test_a_program_for_another_machine_is_xlas(monkeypatch):
    attention.has_plan.cache_clear()
    assert not attention.has_plan(16, 2, 8, "bfloat16")  # the tests' machine has a CPU
    attention.has_plan.cache_clear()
