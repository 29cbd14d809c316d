"""Reads run folders only, without torch: tables, figures, one self-contained page."""
