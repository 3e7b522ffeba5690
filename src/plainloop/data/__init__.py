"""Read data files, split, tokenize and batch them."""
