"""One list of blocks shown in the terminal, as Markdown and as a page."""
