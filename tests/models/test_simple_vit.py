"""big_vision's plain ViT: its positions, its network against timm's parts, its initialisation."""

import functools

import jax
import numpy as np
import pytest
import torch
from reference import nchw, random_images, relative_error
from timm.models.vision_transformer import VisionTransformer

import jaxvision
from jaxvision.models.simple_vit import sincos_positions

NAME = "simple_vit_tiny_patch16_224"


def reference(grid, width=192, classes=7):
    """timm's ViT without class token, with fixed positions, tanh-GELU, a mean behind the norm and a tanh layer."""
    model = VisionTransformer(
        img_size=(grid[0] * 16, grid[1] * 16), embed_dim=width, num_heads=3, num_classes=classes, class_token=False,
        global_pool="avg", fc_norm=False, act_layer=functools.partial(torch.nn.GELU, approximate="tanh"),
    )  # fmt: skip
    y, x = np.mgrid[: grid[0], : grid[1]]
    omega = 1.0 / 10000 ** np.linspace(0, 1, width // 4)
    y, x = (np.einsum("m,d->md", place.flatten(), omega) for place in (y, x))
    table = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], 1)
    model.pos_embed.data = torch.from_numpy(table[None].astype(np.float32))
    model.head = torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.Tanh(), torch.nn.Linear(width, classes))
    return model.eval(), table


@pytest.mark.slow
def test_network_and_gradient_are_timms_parts():
    grid = (3, 4)
    theirs, table = reference(grid)
    np.testing.assert_allclose(sincos_positions(*grid, 192), table, atol=1e-6)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter is not theirs.pos_embed:
                parameter.normal_(0, 0.06)
    state = {k: v for k, v in theirs.state_dict().items() if k != "pos_embed"}
    names = {"head.0.": "pre_logits.fc.", "head.2.": "head."}
    for old, new in names.items():
        state = {k.replace(old, new) if k.startswith(old) else k: v for k, v in state.items()}
    model = jaxvision.create_model(NAME, num_classes=7, weights=state)
    x = random_images((48, 64), 0)
    images = nchw(x).requires_grad_()
    expected = theirs(images)
    assert relative_error(model(x), expected.detach().numpy()) < 1e-4
    expected.square().sum().backward()
    gradient = jax.grad(lambda v: (model(v) ** 2).sum())(x)
    assert relative_error(nchw(np.asarray(gradient)).numpy(), images.grad.numpy()) < 1e-3
    assert [m.shape for m in model.features(x)] == [(len(x), 3, 4, 192)] * 12
    assert model.embed(x).shape == (len(x), 192)


def test_initialisation_is_big_visions():
    model = jaxvision.create_model(NAME, key=jax.random.key(0))
    params = model.variables["params"]
    assert not np.any(params["head"]["weight"]) and not np.any(params["head"]["bias"])
    qkv, fc1 = params["blocks.0"]["attn"]["qkv"]["weight"], params["blocks.0"]["mlp"]["fc1"]["weight"]
    for weight, fans in ((qkv, 192 + 192), (fc1, 192 + 768)):
        bound = np.sqrt(6 / fans)
        assert 0.99 * bound < np.abs(weight).max() <= bound and abs(np.std(weight) * np.sqrt(3) / bound - 1) < 0.02
    patch = np.asarray(params["patch_embed.proj"]["weight"])
    assert abs(patch.std() * np.sqrt(768) - 1) < 0.02 and np.abs(patch).max() < 2.3 / np.sqrt(768)
