"""The names of the sides that train, as the tables show them."""

TUTORIAL = "tutorial's loop"
TRAINER = "Trainer"
GROUPED = "Trainer, group_by_length"
PADDED = "plainloop, padded"
AUTO = "plainloop"
SIDES = (TUTORIAL, TRAINER, GROUPED, PADDED, AUTO)
