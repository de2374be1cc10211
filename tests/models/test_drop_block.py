"""ResNeSt's own DropBlock: its masks, its three places in a block and its rate, each computed from its published code.

timm's kind is in test_regularisation.py.
"""

import functools

import cli
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from reference import timm
from timm.models.resnest import ResNestBottleneck

from jaxvision import config as config_lib
from jaxvision.main import load_config
from jaxvision.models import initializers as init
from jaxvision.models import resnest
from jaxvision.models.drop_block import shared_drop_block
from jaxvision.models.layers import BatchNorm, Conv
from jaxvision.train import build

assert timm


def reference(x, rate, uniforms, size=3):
    """dropblock.py of ResNeSt, by loops: x (N, C, H, W) of one device, uniforms (C, H, W)."""
    _, channels, height, width = x.shape
    gamma = rate * (height * width) / size**2 / ((width - size + 1) * (height - size + 1))
    mask = np.zeros((channels, height, width))
    for c, y, z in np.argwhere(uniforms < gamma):
        mask[c, max(y - size // 2, 0) : y + size // 2 + 1, max(z - size // 2, 0) : z + size // 2 + 1] = 1
    mask = 1 - mask
    return x * mask * (mask.size / mask.sum())


@pytest.mark.parametrize(("height", "width", "size"), [(14, 10, 3), (7, 7, 3), (3, 3, 3), (14, 14, 5)])
def test_masks_are_the_sources(height, width, size):
    rng = np.random.default_rng(height)
    x = rng.standard_normal((6, height, width, 5)).astype(np.float32)
    key, groups, rate = jax.random.key(width), 3, 0.2
    uniforms = np.asarray(jax.random.uniform(key, (groups, height, width, 5)))
    found = np.asarray(shared_drop_block(jnp.asarray(x), rate, key, groups, size))
    for g in range(groups):
        images = x[2 * g : 2 * g + 2].transpose(0, 3, 1, 2)
        expected = reference(images, rate, uniforms[g].transpose(2, 0, 1), size)
        np.testing.assert_allclose(found[2 * g : 2 * g + 2], expected.transpose(0, 2, 3, 1), rtol=1e-5)
    dropped = found == 0
    assert (dropped[0] == dropped[1]).all() and 0.05 < dropped.mean() < 0.7
    assert (dropped[0] != dropped[2]).any() and (dropped[..., 0] != dropped[..., 1]).any()


def test_maps_smaller_than_a_square_stay_finite():
    x = jnp.ones((4, 1, 1, 64))
    found = np.asarray(shared_drop_block(x, 0.3, jax.random.key(0), 1))
    kept = (found[0] != 0).mean()
    assert 0.5 < kept < 0.9
    np.testing.assert_allclose(found[found != 0], 1 / kept, rtol=1e-5)


def test_a_block_drops_where_the_source_does(monkeypatch):
    """Factors in place of masks: behind bn1, the split attention and bn3, as Bottleneck of resnest/gluon/resnet.py."""
    factors = iter((2.0, 3.0, 5.0))
    monkeypatch.setattr(resnest, "shared_drop_block", lambda y, rate, key, groups: y * next(factors))
    dtype = {"dtype": jnp.float64}
    block = resnest.Block(
        width=8, inner=8, stride=2, radix=2, groups=1, pool_first=False, drop_path_rate=0.0, drop_block_kind="resnest",
        drop_block_groups=1, last_scale_init=init.zeros, conv=functools.partial(Conv, **dtype),
        norm=functools.partial(BatchNorm, **dtype),
    )  # fmt: skip
    downsample = torch.nn.Sequential(
        torch.nn.AvgPool2d(2, 2), torch.nn.Conv2d(16, 32, 1, bias=False), torch.nn.BatchNorm2d(32)
    )
    theirs = ResNestBottleneck(16, 8, 2, downsample, radix=2, avd=True).double().train()
    rng = np.random.default_rng(0)
    params = {}
    for name, value in theirs.named_parameters():
        drawn = rng.standard_normal(tuple(value.shape)) / np.sqrt(value[0].numel())
        value.data = torch.from_numpy(drawn + 1 if value.ndim == 1 and name.endswith("weight") else drawn)
        *path, leaf = name.split(".")
        array = value.detach().numpy().copy()
        split = ".".join(path[:2]) if path[0] == "downsample" else path[0]
        holder = params.setdefault(split, {})
        holder = holder.setdefault(path[1], {}) if path[0] == "conv2" else holder
        holder[leaf] = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
    x = rng.standard_normal((4, 8, 8, 16))
    with jax.enable_x64(True):  # the gate's normalisation over four values is no test of float32
        rngs = {"drop_path": jax.random.key(0)}
        run = jax.jit(lambda v, x: block.apply(v, x, True, 0.1, mutable=["batch_stats"], rngs=rngs))
        found, _ = run({"params": params}, jnp.asarray(x))
    with torch.no_grad():
        images = torch.from_numpy(x.transpose(0, 3, 1, 2))
        y = torch.relu(2.0 * theirs.bn1(theirs.conv1(images)))
        y = 3.0 * theirs.conv2(y)
        y = torch.nn.functional.avg_pool2d(y, 3, 2, padding=1)
        y = 5.0 * theirs.bn3(theirs.conv3(y))
        expected = torch.relu(y + theirs.downsample(images)).numpy().transpose(0, 2, 3, 1)
    assert next(factors, None) is None
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_the_recipe_has_the_sources_dropblock_in_the_last_two_stages(monkeypatch):
    """Three of each block of stages 3 and 4, at the sizes that its code passes to DropBlock."""
    c = config_lib.resolve(load_config(f"{cli.ROOT}/configs/resnest50.py", ["--config.model.name=resnest14d"]))
    module = build.build_network(c, type("Source", (), {"num_classes": 1000})).module
    seen = []
    monkeypatch.setattr(resnest, "shared_drop_block", lambda y, rate, key, groups: seen.append(y.shape[1:]) or y)
    rngs = {"params": jax.random.key(0), "drop_path": jax.random.key(1)}
    jax.eval_shape(lambda: module.init(rngs, jnp.zeros((64, 224, 224, 3)), train=True, drop_block=0.1))
    assert seen == [(28, 28, 256), (28, 28, 256), (14, 14, 1024), (14, 14, 512), (14, 14, 512), (7, 7, 2048)]


def test_the_rate_is_that_of_the_sources_scheduler():
    c = config_lib.resolve(load_config(f"{cli.ROOT}/configs/resnest50.py", []))
    run = build.lengths(c, 3 * c.batch_size)
    found = jax.vmap(build.drop_block_schedule(c, run))(jnp.arange(run.total))
    expected = [0.1 * (epoch + 1) / 270 for epoch in range(270) for _ in range(3)]  # DropBlockScheduler, 0 to 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5)
