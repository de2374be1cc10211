"""The one door to computation: what models, layers and augmentation compute with, on any backend."""
