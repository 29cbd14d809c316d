"""Layers and model parts; they know no optimizer, process group or file."""
