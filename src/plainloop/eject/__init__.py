"""Write a run as a standalone script that uses torch, transformers, accelerate and datasets only."""
