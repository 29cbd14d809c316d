"""Rollouts, search and plans of a text world model."""
