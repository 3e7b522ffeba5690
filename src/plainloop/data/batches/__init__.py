"""Raw splits tokenized, ordered, batched and padded."""
