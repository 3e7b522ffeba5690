"""How fast plainloop is, beside the Trainer and the tutorial's loop: `make bench`."""
