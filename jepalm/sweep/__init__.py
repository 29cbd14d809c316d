"""Sweeps: rows of changed configs under several seeds, trained side by side and set beside the first row."""
