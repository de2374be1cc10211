"""A small network of each family with weights like trained ones, and what it computes.

As a program, ``python tests/family_cases.py FILE.npz``, it writes the results of all of them.
"""

import sys
from pathlib import Path
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.models.registry import build_module
from jaxvision.models.variables import init_variables

BATCH = 8  # of fewer images the statistics of a batch are ill-conditioned
# name: pixels of a side
FAMILIES = {
    "resnet10t": 64,
    "seresnext26d_32x4d": 64,
    "resnest14d": 64,
    "tf_efficientnetv2_b0": 64,
    "efficientnet_b0": 64,
    "convnext_atto": 64,
    "swin_tiny_patch4_window7_224": 56,
    "vit_tiny_patch16_224": 64,
    "deit_tiny_distilled_patch16_224": 64,
    "deit3_small_patch16_224": 64,
    "simple_vit_tiny_patch16_224": 64,
}
# One block a stage and a second in the second stage, so that every kind of block with and without stride, shortcut and
# change of width is there; in Swin an unshifted and a shifted one in each.
FEWER_BLOCKS = {
    "ResNet": {"depths": (1, 2, 1, 1)},
    "ResNeSt": {"depths": (1, 2, 1, 1)},
    "EfficientNet": {"depth": 0.4},  # a multiplier
    "ConvNeXt": {"depths": (1, 2, 1, 1)},
    "Swin": {"depths": (2, 2, 2, 2)},
    "ViT": {"depth": 3},
    "SimpleViT": {"depth": 3},
}


def fewer_blocks(module):
    """The module with the fewest blocks that hold all that its family can do."""
    return module.clone(**FEWER_BLOCKS[type(module).__name__])


def network(name):
    """Module, variables and images."""
    size = FAMILIES[name]
    module = fewer_blocks(build_module(name, num_classes=5, image_size=size))
    rng = np.random.default_rng(0)

    def trained(leaf):
        # Weights that start at zero, layer scales and shifts, would hide a branch and its gradient.
        noise = rng.standard_normal(leaf.shape)
        return np.float32(leaf + 0.1 * noise if leaf.ndim < 2 or not leaf.any() else leaf * (1 + 0.2 * noise))

    variables = jax.tree.map(lambda leaf: trained(np.asarray(leaf)), init_variables(module, jax.random.key(0)))
    size = getattr(module, "image_size", None) or (64, 64)
    return module, variables, rng.standard_normal((BATCH, *size, 3), np.float32)


def program(module):
    """Logits in evaluation and training, new statistics, and gradients by variables and images."""

    def loss(params, images, stats):
        variables = {"params": params, "batch_stats": stats}
        logits, new = module.apply(variables, images, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(logits)), (logits, new)

    def compute(variables, images):
        params, stats = variables["params"], variables.get("batch_stats", {})
        gradients, (logits, new) = jax.grad(loss, (0, 1), has_aux=True)(params, images, stats)
        evaluated = module.apply(variables, images, train=False)
        return {"evaluation": evaluated, "training": logits, "statistics": new, "gradients": gradients}

    return compute


def lowered(name):
    """The network's program, and its arguments."""
    module, variables, images = network(name)
    # ReLU's gradient jumps: where rounding moves its input over zero, gradients would differ by percents.
    with mock.patch.object(nn, "relu", nn.silu):
        return jax.jit(program(module)).lower(variables, images), (variables, images)


def results(name):
    """The arrays that the network computes, by name."""
    one, arguments = lowered(name)
    leaves = jax.tree_util.tree_flatten_with_path(one.compile()(*arguments))[0]
    return {f"{name}: {jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in leaves}


def main(out):
    everything = {}
    for name in FAMILIES:
        everything |= {f"{name}: text": np.array(lowered(name)[0].as_text()), **results(name)}
    with Path(out).open("wb") as file:
        np.savez(file, **everything)


if __name__ == "__main__":
    main(sys.argv[1])
