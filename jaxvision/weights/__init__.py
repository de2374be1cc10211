"""Weights in and out: files, other repositories' names, and what may differ between a file and a model."""
