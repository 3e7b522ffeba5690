"""What a setting declares at its field: its range, and what resume, eject and the tasks do with it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Must:
    """A condition on the value of a setting.

    Attributes:
        words: the condition, to follow "give", as in "at least 1".
        holds: whether a value meets it; NaN meets none.
        problem: what to say of a value that does not.
        has_no_end: whether the words fit infinity, which no range holds.
    """

    words: str
    holds: Callable[[Any], bool]
    problem: str = "is out of range"
    has_no_end: bool = False


def at_least(low: float) -> Must:
    """A finite number, `low` or more."""
    return Must(f"at least {low:.10g}", lambda value: low <= value < math.inf, has_no_end=True)


def more_than(low: float) -> Must:
    """A finite number above `low`."""
    return Must(f"more than {low:.10g}", lambda value: low < value < math.inf, has_no_end=True)


def at_most(high: float) -> Must:
    """A number, `high` or less."""
    return Must(f"at most {high:.10g}", lambda value: value <= high)


def less_than(high: float) -> Must:
    """A number below `high`."""
    return Must(f"less than {high:.10g}", lambda value: value < high)


def all_positive(item: str, words: str) -> Must:
    """A tuple of finite numbers above 0, or a word instead of it."""
    return Must(
        words,
        lambda values: isinstance(values, str) or all(0 < value < math.inf for value in values),
        f"has a {item} that is not more than 0",
    )


@dataclass(frozen=True)
class Mark:
    """Something that is true of a setting."""

    meaning: str


OF_CALL = Mark("says how the command was called, and is not written into run.yaml")
COMMON = Mark("most runs need it, so that --help shows it, and not only --help-all")
# The rows and the saved weights are compared themselves, whatever files they come from.
MAY_DIFFER = Mark("changes no number, so that a resumed run may have another value")
CHOOSES_BEST = Mark("decides which evaluation has the best model")
NEEDS_EVALUATIONS = Mark("does nothing without evaluations")
NOT_WITH_TASK = Mark("describes training files or a data set, and not a task of the table")
CLASSES_ONLY = Mark("has no meaning for a regression")
EJECTED = Mark("the script of `plainloop eject` has it")


@dataclass(frozen=True)
class NotEjected:
    """`plainloop eject` refuses the setting, as it does one without a mark, and names a fix."""

    fix: str = "leave it out, or train with plainloop"
