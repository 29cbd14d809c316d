"""Metrics of runs that read actions: what the next state depends on, rollouts, probes, plans."""
