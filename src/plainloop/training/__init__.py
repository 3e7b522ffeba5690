"""The training loop, and the set-up, optimizer, evaluation and progress output around it."""
