"""Timing of training and of writing."""
