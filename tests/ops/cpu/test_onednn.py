"""oneDNN's convolutions inside XLA's programs: equal to XLA's own, and used only where they should be."""

import functools
import platform
import subprocess
import sys
import threading

import cli
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolution_cases import SHAPES, plain
from reference import relative_error, shallow

import jaxvision
from jaxvision.ops import convolution
from jaxvision.ops.backend import lower_for
from jaxvision.ops.cpu import onednn
from tools.bench import models as bench_models

TARGET = "__onednn$convolution"
pytestmark = [
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="jaxlib has oneDNN for Linux on x86-64"
    ),
    # Such programs cannot be stored, and most tests here jit them without onednn.jit, which says so to JAX.
    pytest.mark.filterwarnings("ignore:Error writing persistent compilation cache entry"),
]


def operands(shape):
    """x, weight, bias and what is added; stride, padding and groups."""
    height, width, inputs, outputs, kernel, *settings = SHAPES[shape]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, height, width, inputs), np.float32)
    weight = rng.standard_normal((outputs, kernel, kernel, inputs // settings[2]), np.float32)
    weight /= np.float32(np.sqrt(weight[0].size))
    bias = rng.standard_normal(outputs, np.float32)
    add = rng.standard_normal(jax.eval_shape(lambda: plain(x, weight, *settings)).shape, np.float32)
    return (x, weight, bias, add), dict(zip(("stride", "padding", "groups"), settings, strict=True))


def by_onednn(*arguments, **settings):
    with onednn.enabled():
        return convolution.conv2d(*arguments, **settings)


def test_this_build_has_it():
    assert onednn.available(), "try this jaxlib's custom call; where these tests pass, add its release to onednn.TESTED"


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_xla_s_convolution_with_all_that_follows(shape):
    (x, weight, bias, add), settings = operands(shape)

    @jax.jit
    def ours(x, weight, bias, add):
        cases = (
            (None, None, None),
            (bias, None, nn.relu),
            (bias, add, nn.relu),
            (bias, None, nn.silu),
            (None, add, nn.gelu),
        )
        return [by_onednn(x, weight, *case, **settings) for case in cases]

    y = plain(x, weight, *settings.values())
    expected = y, nn.relu(y + bias), nn.relu(y + bias + add), nn.silu(y + bias), nn.gelu(y + add)
    for one, other in zip(ours(x, weight, bias, add), expected, strict=True):
        assert relative_error(one, other) < 1e-5


@pytest.mark.parametrize("shape", ["groups of 4", "groups of 4, stride 2", "groups, small map", "many groups"])
def test_gradients_of_narrow_groups_in_training(shape):
    (x, weight, *_), settings = operands(shape)

    def gradients(convolve):
        return jax.grad(lambda x, weight: jnp.sum(jnp.sin(convolve(x, weight))), (0, 1))

    @jax.jit
    def ours(x, weight):
        with onednn.enabled("training"):
            return gradients(functools.partial(convolution.conv2d, **settings))(x, weight)

    calls = ours.lower(x, weight).as_text().count(TARGET)
    assert calls == (2 if settings["stride"] == 1 else 1)  # XLA's gradient is faster with a stride
    expected = gradients(lambda x, weight: plain(x, weight, *settings.values()))(x, weight)
    for one, other in zip(ours(x, weight), expected, strict=True):
        assert relative_error(one, other) < 1e-5


@pytest.mark.slow
def test_the_train_step_of_grouped_networks_uses_it_on_one_device(monkeypatch):
    def text(name):
        model = jaxvision.create_model(name, num_classes=3, key=jax.random.key(0))
        state, step = bench_models.training(model)
        images, labels = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
        return jax.jit(step).lower(state, images, labels).as_text()

    assert TARGET not in text("seresnext26d_32x4d")  # these tests have eight devices
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert TARGET in text("seresnext26d_32x4d") and TARGET not in text("resnet10t")


def test_what_is_added_in_place_is_not_lost():
    """It is the convolution's own input, and used again afterwards."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 12, 12, 8), np.float32)
    weight = rng.standard_normal((8, 3, 3, 8), np.float32) / np.float32(9)

    @jax.jit
    def ours(x):
        once = by_onednn(x, weight, None, x, nn.relu, padding=1)
        twice = by_onednn(once, weight, None, x, nn.relu, padding=1)
        return once, twice, twice + once + x

    first = nn.relu(plain(x, weight, 1, 1, 1) + x)
    second = nn.relu(plain(first, weight, 1, 1, 1) + x)
    for one, other in zip(ours(x), (first, second, first + second + x), strict=True):
        assert relative_error(one, other) < 1e-5


def test_where_it_is_used():
    def calls(x, weight, dtype=jnp.float32, backend="cpu", used=by_onednn):
        arrays = (jax.ShapeDtypeStruct(shape, dtype) for shape in (x, weight))
        with lower_for(backend):
            return TARGET in str(jax.make_jaxpr(lambda x, w: used(x, w, padding=weight[1] // 2))(*arrays))

    assert calls((2, 14, 14, 64), (64, 3, 3, 64))
    assert not calls((2, 14, 14, 64), (64, 3, 3, 64), used=convolution.conv2d)
    assert not calls((2, 14, 14, 64), (64, 3, 3, 64), backend="gpu")
    assert not calls((2, 14, 14, 64), (64, 3, 3, 64), dtype=jnp.bfloat16)
    assert not calls((2, 28, 28, 128), (128, 3, 3, 128))  # Winograd's algorithm is faster
    assert calls((2, 7, 7, 512), (512, 3, 3, 512))  # not where its kernels are larger than the maps
    assert not calls((2, 1, 1, 64), (64, 1, 1, 64))  # gates


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name", ["resnet10t", "seresnext26d_32x4d", "resnest14d", "resnetrs50", "tf_efficientnet_b0", "convnext_atto"]
)
def test_compiled_networks_give_the_model_s_logits(name):
    _, model = shallow(name, num_classes=7)
    x = np.random.default_rng(0).standard_normal((5, 96, 96, 3), np.float32)
    classify = jaxvision.compile(model)
    assert classify.uses_onednn and TARGET in classify.lower(x).as_text()
    assert relative_error(classify(x), model(x)) < 1e-4


def test_it_can_be_left_out():
    model = jaxvision.create_model("resnet10t", num_classes=7, key=jax.random.key(0))
    classify = jaxvision.compile(model, use_onednn=False)
    images = jax.ShapeDtypeStruct((9, 64, 64, 3), jnp.float32)
    assert not classify.uses_onednn and TARGET not in classify.lower(images).as_text()


def test_other_releases_are_not_trusted(monkeypatch):
    monkeypatch.setattr(onednn.jaxlib, "__version__", "99.0.1")
    assert not onednn.available.__wrapped__()
    monkeypatch.undo()
    monkeypatch.setattr(onednn.platform, "machine", lambda: "aarch64")
    assert not onednn.available.__wrapped__()
    monkeypatch.undo()
    monkeypatch.setattr(onednn, "_agrees_with_xla", lambda: False)
    with pytest.warns(UserWarning, match="does not answer oneDNN's convolution as it should"):
        assert not onednn.available.__wrapped__()


def test_branches_and_threads_that_run_at_once():
    """Each of them waits for the same pool of threads."""
    (x, weight, bias, _), settings = operands("dense")
    weights = [np.float32(np.roll(weight, i)) for i in range(8)]
    many = jax.jit(lambda x: sum(by_onednn(x, w, bias, **settings) for w in weights))
    expected = sum(plain(x, w, *settings.values()) + bias for w in weights)
    errors = []

    def work():
        errors.extend(relative_error(many(x), expected) for _ in range(50))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 200 and np.max(errors) < 1e-5


@pytest.mark.program
def test_a_persistent_cache_is_no_hindrance(tmp_path):
    """Such a program cannot be kept in it, and nobody is warned of that."""
    program = (
        "import sys, jax, jaxvision; jax.config.update('jax_compilation_cache_dir', sys.argv[1])\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)\n"
        "model = jaxvision.create_model('resnet10t', key=jax.random.key(0), num_classes=3)\n"
        "one, other = (jaxvision.compile(model, use_onednn=use) for use in (True, False))\n"
        "x = jax.numpy.ones((9, 32, 32, 3))\n"
        "print(one.uses_onednn, float(abs(one(x) - other(x)).max() / abs(one(x)).max()))"
    )
    command = [sys.executable, "-W", "error", "-c", program, tmp_path]
    for _ in range(2):
        run = subprocess.run(command, env=cli.environment(quick=True), capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        used, error = run.stdout.split()
        assert used == "True" and float(error) < 1e-4
    names = [path.name for path in tmp_path.iterdir()]
    assert any("jit_run" in name for name in names) and not any("onednn_program" in name for name in names)
