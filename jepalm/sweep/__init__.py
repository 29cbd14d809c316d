"""Sweeps: table rows of changed settings, trained under several seeds and compared with the first row."""
