"""Numbers from a run."""
