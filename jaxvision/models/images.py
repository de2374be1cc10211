"""What a network accepts as images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from jaxvision.errors import UserError


def check_images(images: jax.Array | jax.ShapeDtypeStruct, channels: int) -> None:
    """Raises a ``UserError`` unless ``images`` is a float array of shape (N, H, W, channels).

    Axes of a mesh have to be of the type Auto: with Explicit ones JAX refuses reshapes deep inside a network.
    """
    if not isinstance(getattr(images, "dtype", None), np.dtype):  # a path, a list, or an array of another library
        kind = type(images)
        hint = "numpy.asarray(images)" if hasattr(images, "__array__") else "jaxvision.preprocess(model)(images)"
        raise UserError(
            f"expected images as an array of shape (N, H, W, {channels}), got a {kind.__module__}.{kind.__qualname__}: "
            f"write model({hint})".replace("builtins.", "")
        )
    problems = []
    if images.ndim != 4 or images.shape[-1] != channels:
        hint = ""
        if images.ndim == 4 and images.shape[1] == channels:
            hint = " It looks like torch's NCHW: transpose it with images.transpose(0, 2, 3, 1)."
        elif images.ndim == 3 and images.shape[-1] == channels:
            hint = " It looks like a single image: add the batch axis with images[None]."
        problems.append(f"expected images of shape (N, H, W, {channels}), got {tuple(images.shape)}.{hint}")
    elif images.shape[0] == 0:
        problems.append(f"expected at least one image, got none: shape {tuple(images.shape)}.")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        problems.append(
            f"expected normalised float images, got {images.dtype}: write model(jaxvision.preprocess(model)(images)), "
            "which resizes, crops and normalises; pixels of the right size need (images / 255 - spec.mean) / spec.std "
            "alone."
        )
    sharding = getattr(getattr(images, "aval", None), "sharding", None)
    if sharding is not None and any(sharding.spec) and AxisType.Explicit in sharding.mesh.axis_types:
        problems.append(
            f"expected images on a mesh whose axes are Auto, got Explicit ones ({sharding.spec}): "
            "jax.make_mesh(shape, names, axis_types=(jax.sharding.AxisType.Auto,) * len(names))."
        )
    if problems:
        raise UserError(" ".join(problems))
