"""Implementations that a converter to ONNX knows, and that ONNX Runtime fuses; importing this package registers them.

They run nowhere else: ``lower_for("onnx")`` selects them while :mod:`jaxvision.inference.onnx` traces a model. What a
weight alone determines is computed then, so that the file holds its result.
"""

from jaxvision.ops.onnx import attention, convolution, matmul, normalization, pooling  # noqa: F401  (register)
