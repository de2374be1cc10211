"""Convolutions of every kind that the models use, and XLA's own answer to them."""

import jax

from jaxvision.ops import convolution

# height, width, in, out, kernel, stride, padding, groups
SHAPES = {
    "depthwise": (13, 11, 8, 8, 3, 1, 1, 8),
    "depthwise, stride 2": (13, 12, 8, 8, 3, 2, 1, 8),
    "depthwise, SAME, even": (12, 14, 8, 8, 5, 2, "same", 8),
    "depthwise, SAME, odd": (9, 9, 8, 8, 3, 2, "same", 8),
    "depthwise 7x7": (12, 15, 8, 8, 7, 1, 3, 8),
    "depthwise, kernel 1": (5, 5, 8, 8, 1, 2, 0, 8),
    "groups of 4": (20, 20, 128, 128, 3, 1, 1, 32),
    "groups of 4, stride 2": (21, 20, 64, 128, 3, 2, 1, 16),
    "groups of 16, stride 2": (11, 12, 64, 64, 3, 2, 1, 4),
    "groups, small map": (7, 7, 64, 64, 3, 1, 1, 2),
    "many groups": (9, 9, 160, 160, 3, 1, 1, 20),
    "two wide groups": (20, 20, 64, 32, 3, 1, 1, 2),
    "patches": (16, 16, 3, 8, 4, 4, 0, 1),
    "patches with a rest": (11, 10, 6, 4, 2, 2, 0, 1),
    "1x1": (9, 8, 6, 4, 1, 1, 0, 1),
    "1x1, more outputs, many pixels": (33, 32, 4, 6, 1, 1, 0, 1),
    "1x1, stride 2": (9, 8, 6, 4, 1, 2, 0, 1),
    "small output": (5, 5, 6, 4, 3, 1, 1, 1),
    "dense": (12, 12, 6, 4, 3, 1, 1, 1),
    "dense, SAME": (12, 13, 6, 4, 3, 2, "same", 1),
    "Winograd": (28, 32, 64, 96, 3, 1, 1, 1),
    "Winograd, tiles stand over": (27, 30, 64, 64, 3, 1, 1, 1),
    "Winograd, no padding": (29, 28, 64, 64, 3, 1, 0, 1),
    "Winograd, wide padding": (27, 29, 64, 64, 3, 1, 3, 1),
    "Winograd in groups": (14, 15, 256, 256, 3, 1, 1, 2),
}


def plain(x, weight, stride, padding, groups):
    pads = (
        convolution.same_pads(x.shape[1:3], weight.shape[1:3], stride) if padding == "same" else ((padding,) * 2,) * 2
    )
    return jax.lax.conv_general_dilated(
        x, weight, (stride, stride), pads, dimension_numbers=("NHWC", "OHWI", "NHWC"), feature_group_count=groups
    )
