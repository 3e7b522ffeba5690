"""The names of the sides that train, as the tables show them."""

TUTORIAL = "tutorial's loop"
TRAINER = "Trainer"
GROUPED = "Trainer, group_by_length"
SWITCHED = "Trainer, oneDNN"
PADDED = "plainloop, padded"
DEFAULT = "plainloop, torch's products"
AUTO = "plainloop"
SIDES = (TUTORIAL, TRAINER, GROUPED, SWITCHED, PADDED, DEFAULT, AUTO)
