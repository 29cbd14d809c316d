"""Metrics of answers to given pairs."""
