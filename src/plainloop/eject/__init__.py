"""A run -> one standalone script: torch, transformers, accelerate and datasets, without plainloop."""
