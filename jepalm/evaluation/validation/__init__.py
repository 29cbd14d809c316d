"""Held-out metrics during training."""
