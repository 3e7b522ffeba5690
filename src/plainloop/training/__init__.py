"""The training loop and everything that one training does."""
