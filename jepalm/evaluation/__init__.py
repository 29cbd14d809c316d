"""Held-out quality and embedding health."""
