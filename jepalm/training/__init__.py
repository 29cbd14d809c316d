"""Trainer, schedule, checkpoints, metrics."""
