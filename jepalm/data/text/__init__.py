"""Texts: where they come from, how they are cut into splits, and the tokens made of them."""
