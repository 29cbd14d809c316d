"""Metrics of generated text: likelihood, n-grams, statistics."""
