"""Measurements -> figures: medians, ratios of sides that alternated, the share of the limit."""

from dataclasses import dataclass
from statistics import geometric_mean, median
from typing import Any

from speed.sides import AUTO, DEFAULT, GROUPED, PADDED, TRAINER, TUTORIAL

Entry = dict[str, Any]


def rates(side: Entry, what: str = "samples") -> list[float]:
    """Samples, tokens or flops a second, a number a repeat."""
    return [number / seconds for number, seconds in zip(side[what], side["seconds"], strict=True)]


def ratio(one: list[float], other: list[float]) -> float:
    """The median of how much one is of the other, repeat by repeat: both were measured in turn."""
    return median(a / b for a, b in zip(one, other, strict=True))


def speed(row: Entry, side: str, what: str = "samples") -> float:
    """Samples or tokens a second: the median over the repeats.

    For group_by_length it is all of them over all the time: it goes from long rows to short ones, again
    and again, so that its blocks are not alike.
    """
    measured = row["sides"][side]
    if side == GROUPED:
        return float(sum(measured[what]) / sum(measured["seconds"]))
    return median(rates(measured, what))


def speed_ratio(row: Entry, side: str, other: str, what: str = "samples") -> float:
    """How many times as many samples a second a side trains on as another.

    With `what` tokens it is the tokens, without padding, that are compared. It is the median of
    the repeats' ratios; beside group_by_length the ratio of the totals, as `speed` has it.
    """
    if GROUPED in (side, other):
        totals = [
            sum(row["sides"][name][what]) / sum(row["sides"][name]["seconds"])
            for name in (side, other)
        ]
        return float(totals[0] / totals[1])
    return ratio(rates(row["sides"][side], what), rates(row["sides"][other], what))


def share_of_limit(row: Entry, side: str) -> float:
    """Needed FLOPs over time over the FLOP/s of plain products, measured beside it."""
    return ratio(rates(row["sides"][side], "flops"), [number * 1e9 for number in row["gflops"]])


def memory_ratio(row: Entry, side: str, other: str) -> float:
    """The peak memory of a side over another's."""
    return float(row["sides"][side]["peak_memory"] / row["sides"][other]["peak_memory"])


def pass_rates(side: Entry) -> list[float]:
    """Samples a second of a side that only reads, a number a repeat."""
    return [side["samples"] / seconds for seconds in side["seconds"]]


def pass_ratio(entry: Entry, side: str, other: str) -> float:
    """How many times as many samples a second a side reads as another."""
    return ratio(pass_rates(entry[side]), pass_rates(entry[other]))


def pass_share_of_limit(prediction: Entry, side: str) -> float:
    """As `share_of_limit`, of a side that only reads."""
    measured = prediction["sides"][side]
    flops = [measured["flops"] / seconds for seconds in measured["seconds"]]
    return ratio(flops, [number * 1e9 for number in prediction["gflops"]])


def unpadded_ratio(architecture: Entry) -> float:
    """How many times as fast as padded an architecture trains."""
    return ratio(architecture["padded"], architecture["auto"])


@dataclass(frozen=True)
class Target:
    """A figure that was to be reached.

    Attributes:
        what: the name of the figure.
        figure: as measured.
        bound: what it must reach.
        at_most: whether the bound is the most that it may be, and not the least.
        goal: what would be better still.
    """

    what: str
    figure: float
    bound: float
    at_most: bool = False
    goal: float | None = None

    @property
    def wanted(self) -> str:
        """The bound in words."""
        return f"{'at most' if self.at_most else 'at least'} {self.bound}"

    @property
    def is_reached(self) -> bool:
        """Whether the figure is what it must be."""
        return self.figure <= self.bound if self.at_most else self.figure >= self.bound


def targets(
    rows: dict[str, Entry],
    architectures: dict[str, Entry],
    prediction: Entry | None,
    startup: Entry | None,
) -> list[Target]:
    """What plainloop is to reach, where it was measured."""
    found = []
    if first := rows.get("mrpc-8"):
        times_tutorial = speed_ratio(first, AUTO, TUTORIAL)
        found += [
            Target("mrpc-8: times the Trainer", speed_ratio(first, AUTO, TRAINER), 1.6, goal=1.9),
            Target("mrpc-8: times the tutorial's loop", times_tutorial, 2.0),
            Target("mrpc-8: share of the limit", share_of_limit(first, AUTO), 0.55, goal=0.7),
        ]
    if rows:
        mean = geometric_mean(speed_ratio(row, AUTO, TRAINER) for row in rows.values())
        grouped = min(speed_ratio(row, AUTO, GROUPED) for row in rows.values())
        padded = min(speed_ratio(row, AUTO, PADDED) for row in rows.values())
        memory = max(memory_ratio(row, AUTO, TRAINER) for row in rows.values())
        # Rows that were measured before `--products` have not this side.
        chosen = [
            speed_ratio(row, AUTO, DEFAULT) for row in rows.values() if DEFAULT in row["sides"]
        ]
        found += [
            Target(f"times the Trainer, geometric mean of {len(rows)}", mean, 2.2, goal=3.0),
            Target("times Trainer, group_by_length, the least", grouped, 1.0),
            Target("times plainloop, padded, the least", padded, 1.0),
            *(
                [Target("times plainloop, torch's products, the least", min(chosen), 0.98)]
                if chosen
                else []
            ),
            Target("peak memory over the Trainer's, the most", memory, 1.0, at_most=True),
        ]
    if architectures:
        least = min(map(unpadded_ratio, architectures.values()))
        found.append(Target(f"times padded, the least of {len(architectures)}, base", least, 1.3))
    if prediction:
        sides = prediction["sides"]
        times_pipeline = pass_ratio(sides, "Run.predict", "pipeline")
        times_trainer = pass_ratio(sides, "Run.predict", "Trainer.predict")
        found += [
            Target("prediction: times pipeline", times_pipeline, 2.5),
            Target("prediction: times Trainer.predict", times_trainer, 2.0),
        ]
    if startup:
        warm = median(startup["warm"])
        found.append(Target("first step on the demo, warm, in seconds", warm, 5.0, at_most=True))
    return found
