"""What plainloop does with each text classifier of Transformers, on tiny random models."""
