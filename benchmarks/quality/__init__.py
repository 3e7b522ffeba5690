"""A study of what makes a better model from the same rows."""
