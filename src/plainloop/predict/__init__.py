"""Load a finished run, predict with it and evaluate it."""
