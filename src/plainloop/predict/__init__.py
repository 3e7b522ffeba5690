"""A finished run: load it, predict with it, score it."""
