"""Experiments of several runs: seeds, cross-validation and comparison."""
