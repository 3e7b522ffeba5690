"""Unpadded execution: packed sequences with varlen attention, and a compact embedding table."""
