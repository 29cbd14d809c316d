"""Findings and verdicts: rules over the numbers."""
