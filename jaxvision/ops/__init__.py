"""Operations that models, layers, augmentation and training compute with, on any backend.

    convolution    conv2d, and what follows a convolution
    matmul         linear
    attention      dot_product_attention
    pooling        averages and maxima of windows and of whole maps
    scale_shift    normalisation and channel gates applied to a map
    activations    gelu, relu6
    materialize    values that are stored in memory before they are used
    dtypes         the dtypes to compute and to sum in
    program        compiler options, and how train steps and inference are traced
    process        memory and scheduling of the process, set before JAX starts
    backend        chooses the implementation; the only place that asks for the backend

Each operation has one implementation that runs everywhere. The packages ``cpu`` and ``gpu`` hold faster ones with equal
results, ``onnx`` those that can be converted to ONNX. They are optional: only :mod:`jaxvision.ops.backend` imports them
by name.
"""

from jaxvision.ops.backend import load_implementations

load_implementations()
