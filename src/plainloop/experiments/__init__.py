"""Several runs: seeds, cross-validation, comparison."""
