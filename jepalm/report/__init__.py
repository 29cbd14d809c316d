"""Reads run folders only, without torch: tables, plots, one self-contained page."""
