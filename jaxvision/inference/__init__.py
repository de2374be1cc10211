"""A model made fast for inference: normalisation folded, weight-only work computed once, one compiled program."""
