"""Host side of the input: which examples, read, decode, crop, resize, batch. No TensorFlow, no JAX computation."""
