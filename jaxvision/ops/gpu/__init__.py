"""Implementations that are faster than XLA's own choice on a GPU; importing this package registers them.

Nothing here is needed for a correct result. A new implementation is a function in one of these modules, decorated with
the operation's ``register("gpu")``; see :mod:`jaxvision.ops.backend`.
"""

from jaxvision.ops.gpu import activations, attention, convolution, normalization, pooling  # noqa: F401  (register)
