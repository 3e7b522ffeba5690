"""Data sets on the Hugging Face hub, or in its cache."""

from typing import TYPE_CHECKING

from plainloop.errors import UserError

if TYPE_CHECKING:
    from datasets import DatasetDict


def load_hub_dataset(name: str, configuration: str | None, *, where: str) -> "DatasetDict":
    """Load the splits of a hub data set. None of its code is run.

    Args:
        name: of the data set, as in nyu-mll/glue.
        configuration: one of those that the data set has; None: its only one.
        where: the flag that asked for it.

    Raises:
        UserError: it cannot be had.
    """
    from datasets import load_dataset

    try:
        splits: DatasetDict = load_dataset(name, configuration)
    except (OSError, ValueError) as error:  # what datasets raises without a network or cache
        shown = f"{name} ({configuration})" if configuration else name
        raise UserError(
            f"data set {shown} cannot be loaded from the hub: {type(error).__name__}",
            where=where,
            fix="give its files, or connect once so that it is cached",
        ) from None
    return splits
