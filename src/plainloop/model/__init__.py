"""Load, freeze, adapt and speed up a sequence classifier."""
