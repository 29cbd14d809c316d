"""Given pairs of texts: files or datasets of rows, published tasks, and the tokens made of them."""
