"""jepalm: train, sample and dissect non-autoregressive JEPA language models."""

__version__ = "0.2.0"
